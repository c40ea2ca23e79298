"""YOLO's text files with five points a face: one `.txt` an image, in shares of the upright image's size.

A line is `class cx cy w h` and, where the face has points, five times `x y` or five times
`x y visibility` (https://docs.ultralytics.com/datasets/pose/, `kpt_shape: [5, 2]` or `[5, 3]`). The
networks called YOLO-face have the points in the order left eye, right eye, nose, left and right mouth
corner, seen in the image.
"""

import json
import os
from pathlib import Path

import numpy as np

from retinaface_tf.data.readers.annotation import AnnotatedImage, LabelledImage
from retinaface_tf.data.readers.categories import face_categories
from retinaface_tf.errors import DataError
from retinaface_tf.util.files import is_file, is_folder
from retinaface_tf.util.text_lines import TextLines, parse_numbers, read_text

# Pixels are rounded to so many decimals, or 0 would be 1e-13 after division and multiplication.
_DECIMALS = 10


def read_yolo(
    labels: Path | str, images: Path | str, category: str | int | None = None
) -> list[AnnotatedImage]:
    """Every image of a folder, with the faces of the text file of its name.

    An image without such a file has no face. A point with visibility 0, without visibilities one that
    is negative or 0 0, is NaN.

    Args:
        labels: folder of the text files, which has the subfolders that `images` has.
        images: folder of the images; may be the same.
        category: class number that is faces. None: the only one.

    Raises:
        DataError: a folder is missing, a line is not what should stand there, or there are several
            classes and none was chosen.
        ImageError: the header of an image with faces cannot be read.
    """
    from retinaface_tf.images.listing import IMAGE_SUFFIXES  # loads OpenCV

    labels, images = Path(labels), Path(images)
    for folder in (labels, images):
        if not is_folder(folder):
            raise DataError(f"{folder} is not a folder; YOLO's labels are a folder of .txt files.")
    paths = [p for p in _files(images) if p.suffix.lower() in IMAGE_SUFFIXES]
    texts = {path: (labels / path.relative_to(images)).with_suffix(".txt") for path in paths}
    rows = {path: _rows(text) if is_file(text) else [] for path, text in texts.items()}
    for text in set(_files(labels, ".txt")) - set(texts.values()):
        # Labels whose image is missing; lists of classes and of images lie in such folders too.
        if all(len(parse_numbers(line) or ()) >= 5 for line in read_text(text).splitlines()):
            rows[(images / text.relative_to(labels)).with_suffix(".jpg")] = []
    classes = sorted({int(row[0]) for found in rows.values() for row in found})
    wanted = face_categories({number: "" for number in classes}, labels, category)
    return [
        _annotated(path, np.array([row[1:] for row in found if row[0] in wanted]))
        for path, found in sorted(rows.items())
    ]


def write_yolo(entry: LabelledImage, points: bool) -> str:
    """The text of one image's file; with points those that are unknown have visibility 0."""
    image, scale = entry.image, np.array(entry.size[::-1], np.float64)
    boxes = image.boxes.astype(np.float64).reshape(-1, 2, 2) / scale
    places = image.landmarks.astype(np.float64) / scale
    seen = np.isfinite(places).all(axis=2, keepdims=True)
    triples = np.concatenate([np.where(seen, places, 0), 2 * seen], axis=2).reshape(-1, 15)
    columns = [boxes.mean(axis=1), boxes[:, 1] - boxes[:, 0], *([triples] if points else [])]
    rows = np.concatenate(columns, axis=1)
    return "".join("0 " + " ".join(f"{v:.16g}" for v in row) + "\n" for row in rows.tolist())


def write_yolo_data(images: Path, points: bool) -> str:
    """The text of `data.yaml`, which says to ultralytics what the labels of a folder of images are."""
    pose = "kpt_shape: [5, 3]\nflip_idx: [1, 0, 2, 4, 3]\n" if points else ""
    return (
        "# The labels belong into the images' folder, or a twin of it with labels/ for images/ in its path.\n"
        f"path: {json.dumps(str(images.absolute()), ensure_ascii=False)}\n"
        "train: .\nval: . # the same photos: name others to judge by\n"
        f"{pose}names: {{0: face}}\n"
    )


def _files(folder: Path, suffix: str = "") -> list[Path]:
    names = (Path(place) / n for place, _, found in os.walk(folder) for n in found)
    return [path for path in names if path.name.endswith(suffix)]


def _rows(text: Path) -> list[list[float]]:
    """[class, cx, cy, w, h, five times x y visibility] of each face."""
    lines, rows = TextLines(text), []
    while lines:
        numbers = lines.take_numbers(5)
        if len(numbers) not in (5, 15, 20):
            raise lines.error(
                f"{len(numbers)} numbers; a face has 5, 15 (five points) or 20 (with visibilities)"
            )
        points = np.zeros((5, 3))
        if len(numbers) == 15:
            points[:, :2] = np.reshape(numbers[5:], (5, 2))
            points[:, 2] = (points[:, :2] >= 0).all(axis=1) & points[:, :2].any(axis=1)
        elif len(numbers) == 20:
            points = np.reshape(numbers[5:], (5, 3))
        rows.append([*numbers[:5], *points.ravel()])
    return rows


def _annotated(path: Path, rows: np.ndarray) -> AnnotatedImage:
    from retinaface_tf.images.read import read_size  # loads OpenCV

    if not len(rows):
        return AnnotatedImage(path, [])
    scale = np.array(read_size(path)[::-1], np.float64)
    center, half = rows[:, :2] * scale, rows[:, 2:4] * scale / 2
    boxes = np.concatenate([center - half, center + half], axis=1)
    triples = rows[:, 4:].reshape(-1, 5, 3)
    points = np.where(triples[..., 2:] > 0, triples[..., :2] * scale, np.nan)
    return AnnotatedImage(path, boxes.round(_DECIMALS), points.round(_DECIMALS))
