"""Puts a trained network into the package: `python training/release.py --help`.

    python training/release.py runs/last/best.weights.h5 --preset NAME --calibration PHOTOS \\
        --figure "AP, 106 FDDB images=0.996" --fact "hours=9 on two cores"

Writes NAME.weights.npz (float16), NAME.tflite, NAME-int8.tflite, NAME.onnx and NAME.json into
`retinaface_tf/sources/files`, once all of them find the same faces in an image.
"""

from __future__ import annotations

import datetime
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import typer

import retinaface_tf
from retinaface_tf.cli import run_script
from retinaface_tf.cli.options import Overwrite
from retinaface_tf.config import DetectionSettings
from retinaface_tf.errors import ConfigError, WeightsError
from retinaface_tf.faces.faces import Faces
from retinaface_tf.geometry.boxes import match_pairs, pairwise_iou
from retinaface_tf.sources.packaged import FOLDER, file_names
from retinaface_tf.util.files import cannot_write, require_free, sha256_of

FORMAT = 1
# (height, width) of the images int8 is measured on, and the input that the files begin with: any
# other size that is a multiple of the coarsest stride may be fed after resizing.
SIZE = (640, 640)
# Two answers are the same face from this overlap on; int8 rounds.
LEAST_IOU = {"float32": 0.95, "int8": 0.75}
MOST_SCORE_CHANGE = {"float32": 0.02, "int8": 0.2}


def main(
    weights: Annotated[Path, typer.Argument(help="the trained network, .weights.h5")],
    preset: Annotated[str, typer.Option(help="whose network it is")],
    calibration: Annotated[
        Path, typer.Option(metavar="DIR", help="photos like those int8 will see, 100 are enough")
    ],
    stem: Annotated[
        str | None, typer.Option(help="what the files' names begin with; by default the preset's")
    ] = None,
    image: Annotated[
        Path | None, typer.Option(help="for the check; by default a portrait by NASA")
    ] = None,
    out: Annotated[Path, typer.Option(help="folder, instead of the package's")] = FOLDER,
    figure: Annotated[
        list[str] | None, typer.Option(metavar="WHAT=VALUE", help="measured with these weights")
    ] = None,
    overwrite: Overwrite = False,
    fact: Annotated[
        list[str] | None, typer.Option(metavar="WHAT=VALUE", help="data, command, hours, ...")
    ] = None,
) -> None:
    """Make a trained network's packaged files, check what they detect, then put them in place."""
    from retinaface_tf.sources.demo_photo import demo_photo
    from retinaface_tf.util.process import to_stderr

    figures, facts = _pairs("--figure", figure), _pairs("--fact", fact)
    for name in file_names(stem or preset).values():
        require_free(out / name, filter(None, [weights, image]), overwrite=overwrite)
    written = release(
        weights,
        preset,
        calibration,
        image or demo_photo(),
        stem=stem,
        out=out,
        figures=figures,
        facts=facts,
        notify=to_stderr,
    )
    for name, file in written["files"].items():
        print(f"{out / name}: {file['bytes']:,} bytes, sha256 {file['sha256']}")


def release(
    weights: str | Path,
    preset: str,
    calibration: str | Path,
    image: str | Path | np.ndarray,
    *,
    stem: str | None = None,
    out: str | Path = FOLDER,
    figures: Mapping[str, str] | None = None,
    facts: Mapping[str, str] | None = None,
    threshold: float = DetectionSettings.threshold,
    notify: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Writes the files of a packaged network: all of them, or none.

    First the weights are rounded to float16, then the .tflite files and the .onnx are made of the
    rounded ones. Each is asked for the faces of an image and has to find those that `weights` finds.

    Args:
        weights: `.weights.h5` of the trained network.
        preset: whose network it is; noted in the files.
        calibration: folder of photos like those int8 will see, 100 are enough.
        image: with at least one face; see `images.read.read_image`.
        stem: what the files' names begin with; the preset's name where it is left out.
        out: folder of the files.
        figures: what was measured with these weights, by what it is.
        facts: anything else worth knowing: data, command, hours, ...
        threshold: least score of the faces compared.
        notify: is given what is being done and found, a line at a time.

    Returns:
        What `STEM.json` holds.

    Raises:
        ConfigError: no preset has that name, or there are too few photos.
        ImageError: the image cannot be read.
        WeightsError: the weights are damaged or of another network, float16 cannot hold them, an
            answer differs, or the folder cannot be written.
    """
    from retinaface_tf.export.calibration import CalibrationPhotos
    from retinaface_tf.export.onnx import export_onnx
    from retinaface_tf.export.tflite import export_tflite
    from retinaface_tf.images.read import read_image
    from retinaface_tf.inference.detector import RetinaFace
    from retinaface_tf.inference.runtimes.keras import KerasRuntime
    from retinaface_tf.presets import get_preset
    from retinaface_tf.weights.load import load_weights, require_file
    from retinaface_tf.weights.npz import load_compact_weights, save_compact_weights

    weights, out = require_file(weights), Path(out)
    config = get_preset(preset).config
    photos = CalibrationPhotos(calibration, SIZE, config.pixel_mean)
    network = load_weights(weights, config)
    image = read_image(image)
    notify(f"{weights}: {network.count_params():,} numbers")
    expected = RetinaFace(KerasRuntime(network)).detect(image, threshold=threshold)
    if not len(expected):
        raise WeightsError(f"{weights} finds no face in the image: there is nothing to compare.")
    names = file_names(stem or preset)
    out.mkdir(parents=True, exist_ok=True)
    # In the same folder, so that renaming moves nothing.
    with tempfile.TemporaryDirectory(prefix=".release-", dir=out) as folder:
        made = {kind: Path(folder) / name for kind, name in names.items()}
        save_compact_weights(network, made["weights"])
        network = load_compact_weights(made["weights"])
        for precision in ("float32", "int8"):
            notify(f"exporting {names[precision]}")
            export_tflite(
                network,
                made[precision],
                size=SIZE,
                precision=precision,
                calibration=photos if precision == "int8" else None,
                preset=preset,
            )
        notify(f"exporting {names['onnx']}")
        export_onnx(network, made["onnx"], preset=preset)
        detectors = {
            "weights": RetinaFace(KerasRuntime(network)),
            **{k: RetinaFace.from_file(made[k]) for k in ("float32", "int8", "onnx")},
        }
        check = {}
        for kind, detector in detectors.items():
            found = detector.detect(image, threshold=threshold)
            agreement = compare_faces(expected, found, kind, names[kind])
            check[names[kind]] = agreement
            agreed = ", ".join(f"{what} {value}" for what, value in agreement.items())
            notify(f"{names[kind]}: {made[kind].stat().st_size / 1e6:.3f} MB, {agreed}")
        description = {
            "format": FORMAT,
            "preset": preset,
            "date": datetime.date.today().isoformat(),
            "version": retinaface_tf.__version__,
            "parameters": network.count_params(),
            "made_of": {"name": weights.name, "sha256": sha256_of(weights)},
            "calibration_photos": len(photos),
            "files": {
                names[kind]: {"bytes": made[kind].stat().st_size, "sha256": sha256_of(made[kind])}
                for kind in detectors
            },
            "check": check,
            "figures": dict(figures or {}),
            "facts": dict(facts or {}),
        }
        made["facts"].write_text(json.dumps(description, indent=2, ensure_ascii=False) + "\n")
        try:
            for kind, path in made.items():  # the facts last
                path.replace(out / names[kind])
        except OSError as error:
            raise WeightsError(cannot_write(out, error)) from None
    return description


def compare_faces(expected: Faces, found: Faces, kind: str, name: str) -> dict[str, float]:
    """How far what a file finds in an image is from what the network it was made of finds.

    Args:
        expected, found: by the network, and by the file.
        kind: "int8" is allowed more than the others.
        name: of what found them, for messages.

    Returns:
        Number of "faces", "least_iou" of a face's two boxes, largest "score_change" and largest
        "point_change", as a share of sqrt(W * H) of its face.

    Raises:
        WeightsError: they are not the same faces.
    """
    kind = "int8" if kind == "int8" else "float32"
    if len(found) != len(expected):
        raise WeightsError(
            f"{name} finds {len(found)} faces where the weights find {len(expected)}; nothing was "
            "written."
        )
    overlaps = pairwise_iou(expected.boxes, found.boxes)
    mine, theirs = match_pairs(overlaps, 0)
    expected, found = expected[mine], found[theirs]
    least = float(overlaps[mine, theirs].min())
    change = float(np.abs(expected.scores - found.scores).max())
    sizes = np.sqrt(np.prod(expected.boxes[:, 2:] - expected.boxes[:, :2], axis=1))
    moved = np.linalg.norm(expected.landmarks - found.landmarks, axis=-1)
    if least < LEAST_IOU[kind] or change > MOST_SCORE_CHANGE[kind]:
        raise WeightsError(
            f"{name} finds other faces than the weights (IoU {least:.2f}, scores differ by "
            f"{change:.2f}); nothing was written."
        )
    return {
        "faces": len(found),
        "least_iou": round(least, 4),
        "score_change": round(change, 4),
        "point_change": round(float((moved / sizes[:, None]).max()), 4),
    }


def _pairs(option: str, entries: list[str] | None) -> dict[str, str]:
    pairs = {}
    for entry in entries or []:
        what, equals, value = entry.partition("=")
        if not (what and equals and value):
            raise ConfigError(f"{option} {entry!r} is not understood: give WHAT=VALUE.")
        pairs[what.strip()] = value.strip()
    return pairs


if __name__ == "__main__":
    run_script(main)
