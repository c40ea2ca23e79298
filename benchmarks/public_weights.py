"""AP of public weights through this project, beside onnxruntime on the same images, in one run.

    python benchmarks/public_weights.py --data ../shared/data [--checkpoints DIR] [--limit N]

`--data` holds `fddb/` and `wider/val/` as described in CONTRIBUTING. Plain AP at IoU 0.5, threshold
0.02, suppression 0.4. The preset's row also shows onnxruntime running the ONNX file that was
pulled, decoded without this package's code; every `.pth` below `--checkpoints` that is this
network adds a row (those of Face-Detector-1MB, trained with ReLU, through `mobilenet0.25-relu`).
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.onnx_reference import OnnxReference
from retinaface_tf import RetinaFace, get_preset
from retinaface_tf.data.readers.fddb import read_fddb_boxes
from retinaface_tf.data.readers.widerface import read_widerface
from retinaface_tf.errors import WeightsError
from retinaface_tf.evaluation.average_precision import average_precision
from retinaface_tf.images.read import read_image
from retinaface_tf.inference.preprocess import prepare
from retinaface_tf.weights.choose_file import weights_path
from retinaface_tf.weights.convert.convert import convert_weights
from retinaface_tf.weights.hdf5 import save_weights

THRESHOLD = 0.02
PRESET = "mobilenet0.25"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--checkpoints", type=Path)
    parser.add_argument("--limit", type=int, help="images of each set, for a quick run")
    options = parser.parse_args()

    fddb = read_fddb_boxes(
        options.data / "fddb/boxes_verified.txt", options.data / "fddb/originalPics"
    )
    wider = read_widerface(
        options.data / "wider/val/wider_face_val_bbx_gt.txt", options.data / "wider/val/images"
    )
    columns = {
        "FDDB verified, original": (fddb[: options.limit], "original"),
        "WIDER val, original": (wider[: options.limit], "original"),
        "WIDER val, 1600 (max 2150)": (wider[: options.limit], (1600, 2150)),
    }
    table = Table("weights", "by", *(f"{c} ({len(p)})" for c, (p, _) in columns.items()))
    detector = RetinaFace.from_preset(PRESET, runtime="keras")
    table.add_row(PRESET, "retinaface-tf", *ours(detector, columns))
    pulled = weights_path(PRESET)
    reference = OnnxReference(pulled.with_name(pulled.name.replace(".weights.h5", ".onnx")))
    table.add_row(PRESET, "onnxruntime", *theirs(reference, columns))
    for path in sorted(options.checkpoints.rglob("*.pth")) if options.checkpoints else []:
        name = f"{path.parent.name.split('_')[0]}/{path.name}"
        name = f"1MB: {name}" if "1MB" in path.parent.name else name
        preset = "mobilenet0.25-relu" if "1MB" in name else PRESET
        try:
            network = convert_weights(path, get_preset(preset).config)
        except WeightsError as error:
            table.add_row(name, f"not converted: {error}", *["-"] * len(columns))
            continue
        with tempfile.TemporaryDirectory() as folder:
            weights = save_weights(network, Path(folder) / "converted.weights.h5")
            detector = RetinaFace.from_file(weights, runtime="keras")
        table.add_row(name, "retinaface-tf", *ours(detector, columns))
    Console(width=140).print(table)


def ours(detector: RetinaFace, columns) -> list[str]:
    row = []
    for name, (labelled, size) in columns.items():
        answers = detector.stream(
            [image.path for image in labelled],
            threshold=THRESHOLD,
            size=size,
            large_faces=False,
            zoom="off",
        )
        found = [(f.boxes, f.scores) for f in track(answers, name, len(labelled), console=STDERR)]
        row.append(f"{average_precision(found, truth(labelled)):.4f}")
    return row


def theirs(reference: OnnxReference, columns) -> list[str]:
    row = []
    for name, (labelled, size) in columns.items():
        found = []
        for image in track(labelled, name, console=STDERR):
            pixels, (scale, _), _ = prepare(read_image(image.path), size)
            boxes, scores, _ = reference.detect(pixels, THRESHOLD)
            found.append((boxes / scale, scores))
        row.append(f"{average_precision(found, truth(labelled)):.4f}")
    return row


def truth(labelled) -> list:
    return [(image.boxes, image.ignored) for image in labelled]


STDERR = Console(stderr=True)

if __name__ == "__main__":
    main()
