"""An image of photos with two detectors' faces side by side, to be looked at."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.own.failures import THRESHOLD, judge
from benchmarks.peers.answers import Answers
from benchmarks.peers.images import ImageSet
from retinaface_tf.faces.faces import Faces
from retinaface_tf.images.read import read_image
from retinaface_tf.util.files import write_whole

SEED = 24
# Pixels of a photo's longer side, of a caption, between the photos of a pair, between pairs.
SIDE, CAPTION, BETWEEN, GAP = 400, 22, 4, 12
PAIRS = 3
MISSED_COLOR = (255, 40, 40)


class Chosen(NamedTuple):
    """A photo of a set."""

    key: str
    index: int


def choose_photos(
    names: Mapping[str, Sequence[str]], count: int = 24, seed: int = SEED
) -> list[Chosen]:
    """Photos drawn by lot, as many of each set as can be, no name twice.

    Args:
        names: set's key -> names of its photos.
        count: of all together.
        seed: of the lot.
    """
    rng = np.random.default_rng(seed)
    orders = {key: list(rng.permutation(len(photos))) for key, photos in names.items()}
    chosen, taken = [], set()
    while len(chosen) < count and any(orders.values()):
        for key, order in orders.items():
            while order and names[key][order[0]] in taken:
                order.pop(0)
            if order and len(chosen) < count:
                index = int(order.pop(0))
                taken.add(names[key][index])
                chosen.append(Chosen(key, index))
    return sorted(chosen, key=lambda photo: list(names).index(photo.key))


def draw_sheet(
    found: Sequence[tuple[str, Mapping[str, Answers]]], sets: Mapping[str, ImageSet], count: int
) -> np.ndarray:
    """uint8 RGB: three pairs a row, each photo once for each detector; missed faces are red.

    Args:
        found: (name, set's key -> what was found in it) of the detectors.
        sets: of the same keys.
        count: of photos.
    """
    names = {key: [photo.name for photo in sets[key].photos] for key in found[0][1]}
    tiles = [
        np.hstack([tile(sets[photo.key], photo.index, who, by[photo.key]) for who, by in found])
        for photo in choose_photos(names, count)
    ]
    # Photos of like shape share a row, so that little is left white.
    tiles.sort(key=len)
    width = len(tiles[0][0]) + GAP
    rows = []
    for start in range(0, len(tiles), PAIRS):
        part = tiles[start : start + PAIRS]
        row = np.full((max(map(len, part)) + GAP, PAIRS * width, 3), 255, np.uint8)
        for place, image in enumerate(part):
            row[: len(image), place * width : place * width + image.shape[1]] = image
        rows.append(row)
    return np.vstack(rows)


def tile(images: ImageSet, index: int, who: str, answers: Answers) -> np.ndarray:
    """uint8 RGB [H, 404, 3]: a photo with what one detector found, under a line that counts it."""
    import cv2

    pixels = read_image(images.photos[index])
    scale = SIDE / max(pixels.shape[:2])
    height, width = (max(1, round(length * scale)) for length in pixels.shape[:2])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    pixels = cv2.resize(pixels, (width, height), interpolation=method)
    boxes, scores, points = answers.found[index]
    seen = judge(answers.found[index], images.boxes[index], images.ignored[index])
    faces = Faces(
        boxes[seen.kept] * scale, scores[seen.kept], points[seen.kept] * scale, (height, width)
    )
    pixels = faces.draw(pixels)
    for x1, y1, x2, y2 in np.rint(images.boxes[index][seen.missed] * scale).astype(int).tolist():
        cv2.rectangle(pixels, (x1, y1), (x2, y2), MISSED_COLOR, 1)
    result = np.full((CAPTION + height, SIDE + BETWEEN, 3), 255, np.uint8)
    result[CAPTION:, :width] = pixels
    right, wrong = int((seen.valid & ~seen.missed).sum()), int(seen.wrong.sum())
    text = f"{who}: {right} of {seen.valid.sum()}, {wrong} wrong, {images.photos[index].stem}"[:54]
    cv2.putText(result, text, (2, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    return result


def write_sheet(path: Path, image: np.ndarray, most_bytes: int = 1_500_000) -> int:
    """Writes a JPEG of at most `most_bytes` at the highest quality that fits; returns the quality."""
    from PIL import Image

    for quality in (88, 80, 72, 64, 56, 48, 40):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=quality, optimize=True)
        if buffer.tell() <= most_bytes:
            break
    write_whole(path, buffer.getvalue())
    return quality


def sheet_words(count: int) -> str:
    """What the sheet shows, in a line."""
    return f"{count} photos at 640, score from {THRESHOLD}; green found, red missed"
