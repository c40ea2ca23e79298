"""Accuracy against time: one size for the whole photo, or closer looks at small faces (`--zoom`).

    python benchmarks/second_look.py --data ../shared/data [--step 1] [--out docs]

AP is plain, IoU 0.5, scores from 0.02, on 16 photos of WIDER FACE val and 100 of it at 416x416 (every n-th with
`--step`); times are CPU times of one thread, pixels in, faces out, a photo. A number is how many pixels the longer
side is scaled to, "+N" at most N tiles of zoom. YuNet runs in OpenCV. Written: OUT/figures/second-look.json and OUT/second-look.png.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from io import BytesIO
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2

from benchmarks.own_weights import YUNET
from retinaface_tf import RetinaFace
from retinaface_tf.data.readers.annotation import AnnotatedImage
from retinaface_tf.data.readers.widerface import read_widerface
from retinaface_tf.evaluation.average_precision import average_precision
from retinaface_tf.images.read import read_image
from retinaface_tf.inference.detector import Detector
from retinaface_tf.inference.test_time_augmentation import Augmentation, AugmentedDetector
from retinaface_tf.inference.yunet import YuNetBackend
from retinaface_tf.util.files import write_whole

SETS = {
    "wider": ("wider/val", "WIDER FACE val"),
    "wider416": ("wider_416/val", "WIDER FACE val at 416x416"),
}
STATIC, FIRST = (416, 512, 640, 800, 1088, 1280, 1600), (512, 640, 800)
BUDGETS = (1, 2, 4, 8, 32)
# Name of a line in the plot, what a point of it is called, the detector, settings of a call.
Row = tuple[str, str, Detector, dict]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument(
        "--step", type=int, default=1, help="take every n-th photo of the second set"
    )
    parser.add_argument("--out", type=Path, default=Path("docs"))
    options = parser.parse_args()
    cv2.setNumThreads(1)
    sets = {}
    for key, (folder, _) in SETS.items():
        images = read_set(options.data / folder)
        images = images[:: options.step] if key == "wider416" else images
        sets[key] = [(read_image(i.path), (i.boxes, i.ignored)) for i in images]
    results = []
    for line, point, detector, settings in rows(options.data / YUNET):
        entry = {"line": line, "point": point}
        for key, photos in sets.items():
            detector.detect(photos[0][0], **settings)
            begun = time.process_time()
            found = [detector.detect(pixels, threshold=0.02, **settings) for pixels, _ in photos]
            spent = time.process_time() - begun
            ap = average_precision(
                [(f.boxes, f.scores) for f in found], [truth for _, truth in photos]
            )
            entry[key] = {"ap": round(ap, 4), "ms": round(1000 * spent / len(photos), 1)}
        results.append(entry)
        figures = "   ".join(f"{entry[key]['ap']:.3f} {entry[key]['ms']:7.1f} ms" for key in SETS)
        print(f"{line:32} {point:>8}   {figures}", flush=True)
    run = {"photos": {key: len(photos) for key, photos in sets.items()}, "rows": results}
    write_whole(options.out / "figures" / "second-look.json", json.dumps(run, indent=1) + "\n")
    write_whole(options.out / "second-look.png", plot(run))


def read_set(folder: Path) -> list[AnnotatedImage]:
    """Photos of WIDER FACE val in a folder as its own archive has them."""
    return read_widerface(folder / "wider_face_val_bbx_gt.txt", folder / "images")


def rows(yunet: Path) -> list[Row]:
    """What is compared."""
    made: list[Row] = []
    for precision in ("float32", "int8"):
        lite = RetinaFace.from_preset("lite", precision=precision, threads=1, zoom="off")
        made += [(f"lite {precision}", str(s), lite, {"size": (s, s)}) for s in STATIC]
        made += [
            (
                f"lite {precision}, {s} + zoom",
                f"+{n}",
                lite,
                {"size": (s, s), "zoom": "auto", "budget": n},
            )
            for s in FIRST
            for n in BUDGETS
        ]
    lite = made[0][2]
    views = Augmentation(scales=((640, 640), (1088, 1088)), flip=True)
    made.append(("lite float32, 2 sizes, mirrored", "4", AugmentedDetector(lite, views), {}))
    public = RetinaFace.from_preset("mobilenet0.25", runtime="litert", threads=1, zoom="off")
    made += [("public mobilenet0.25", str(s), public, {"size": (s, s)}) for s in (640, 1088)]
    zoomed = {"size": (640, 640), "zoom": "auto", "budget": 32}
    made.append(("public mobilenet0.25", "640+32", public, zoomed))
    if yunet.is_file():
        other = RetinaFace(YuNetBackend(yunet))
        made += [("YuNet (OpenCV)", str(s), other, {"size": (s, s)}) for s in (640, 1088)]
    return made


def plot(run: dict) -> bytes:
    """PNG: AP over time, a line for each way of searching."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 6), layout="constrained")
    for axis, (key, (_, title)) in zip(figure.subplots(1, len(SETS)), SETS.items()):
        for line in dict.fromkeys(row["line"] for row in run["rows"]):
            mine = [row for row in run["rows"] if row["line"] == line]
            times, values = ([row[key][name] for row in mine] for name in ("ms", "ap"))
            dashes = "--" if "int8" in line else "-"
            axis.plot(
                times,
                values,
                dashes,
                color="black" if "YuNet" in line else None,
                marker="o" if "zoom" in line else "s",
                markersize=4,
                label=line,
            )
            if "float32" in line or "lite" not in line:
                for row, x, y in zip(mine, times, values):
                    axis.annotate(
                        row["point"], (x, y), (3, -9), textcoords="offset points", fontsize=7
                    )
        axis.set(xscale="log", xlabel="CPU ms a photo, one thread", ylabel="AP at IoU 0.5")
        axis.set_title(f"{title}, {run['photos'][key]} photos")
        axis.grid(True, which="both", color="#dddddd", linewidth=0.6)
    figure.axes[1].legend(fontsize=8)
    stream = BytesIO()
    figure.savefig(stream, format="png", dpi=90, metadata={"Software": None})
    return stream.getvalue()


if __name__ == "__main__":
    main()
