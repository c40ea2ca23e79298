"""What rotations and tiles find that a plain search does not, on photos of your own.

    python benchmarks/augmentation.py PHOTOS [--limit 60]

Turned photos: faces found upright are looked for again after a quarter, half and three-quarter
turn. Small faces: photos shrunk to a third and laid side by side in one large image, searched
whole and in tiles; what is found in the single shrunk photos at twice their size is the truth.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import numpy as np

from retinaface_tf import RetinaFace
from retinaface_tf.geometry.boxes import pairwise_iou
from retinaface_tf.images.listing import list_images
from retinaface_tf.images.read import read_image
from retinaface_tf.inference.test_time_augmentation import Augmentation, AugmentedDetector

CELL = 160


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--limit", type=int, default=60)
    options = parser.parse_args()
    paths = [path for path, _ in list_images([options.photos])][: options.limit]
    images = [read_image(path) for path in paths]
    detector = RetinaFace.from_preset("mobilenet0.25")
    turned(detector, images)
    tiled(detector, images)


def turned(detector: RetinaFace, images: list[np.ndarray]) -> None:
    upright = list(detector.stream(images))
    rotating = AugmentedDetector(detector, Augmentation(rotations=(0, 1, 2, 3)))
    print(f"{sum(map(len, upright))} faces found upright in {len(images)} photos")
    for turns in (1, 2, 3):
        rotated = [np.ascontiguousarray(np.rot90(image, turns)) for image in images]
        truth = [rotate_boxes(f.boxes, i.shape[:2], turns) for f, i in zip(upright, images)]
        for name, searcher in (("plain", detector), ("rotations", rotating)):
            found = recalled(truth, [faces.boxes for faces in searcher.stream(rotated)])
            print(f"  turned {90 * turns:3d} degrees, {name:10s} {found} found again")


def rotate_boxes(boxes: np.ndarray, size: tuple[int, int], turns: int) -> np.ndarray:
    """[N, 4] corners after `np.rot90(image, turns)` of a (height, width) image."""
    height, width = size
    for _ in range(turns):
        x1, y1, x2, y2 = boxes.T
        boxes = np.stack([y1, width - x2, y2, width - x1], axis=1)
        height, width = width, height
    return boxes


def tiled(detector: RetinaFace, images: list[np.ndarray]) -> None:
    columns = 24
    cells = [fit(image) for image in images]
    truth = [faces.boxes for faces in detector.stream(cells, size=2 * CELL)]
    rows = -(-24 * 24 // columns)
    canvas = np.full((rows * CELL, columns * CELL, 3), 128, np.uint8)
    boxes = []
    for place in range(rows * columns):
        y, x = (CELL * v for v in divmod(place, columns))
        canvas[y : y + CELL, x : x + CELL] = cells[place % len(cells)]
        boxes.append(truth[place % len(cells)] + np.array([x, y, x, y]))
    boxes = np.concatenate(boxes)
    print(f"{len(boxes)} small faces in one image of {canvas.shape[1]}x{canvas.shape[0]}")
    tiles = AugmentedDetector(detector, Augmentation(tile=1024))
    for name, searcher in (("plain", detector), ("tiles of 1024", tiles)):
        found = recalled([boxes], [searcher.detect(canvas).boxes])
        print(f"  {name:14s} {found} found")


def fit(image: np.ndarray) -> np.ndarray:
    scale = CELL / max(image.shape[:2])
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    cell = np.full((CELL, CELL, 3), 128, np.uint8)
    cell[: small.shape[0], : small.shape[1]] = small[:CELL, :CELL]
    return cell


def recalled(truth: list[np.ndarray], found: list[np.ndarray]) -> int:
    pairs = zip(truth, found)
    return sum(int((pairwise_iou(t, f).max(axis=1, initial=0) >= 0.5).sum()) for t, f in pairs)


if __name__ == "__main__":
    main()
