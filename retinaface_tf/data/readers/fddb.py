"""FDDB's labels (Jain and Learned-Miller 2010): ellipses, or boxes drawn around them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from retinaface_tf.data.readers.annotation import AnnotatedImage, corners_from_xywh
from retinaface_tf.data.readers.label_lines import LabelLines


def read_fddb_ellipses(labels: Path | str, images: Path | str) -> list[AnnotatedImage]:
    """Images of a `FDDB-fold-NN-ellipseList.txt`; each box just holds its ellipse.

    The ellipses go up to the crown, so these boxes are taller than WIDER FACE's.

    Args:
        labels: the list.
        images: folder `originalPics`; ".jpg" is added to the names.

    Raises:
        DataError: the file cannot be read, or a line is not what should stand there.
    """
    return _read(labels, images, ".jpg", 5, ellipse_boxes)


def read_fddb_boxes(labels: Path | str, images: Path | str) -> list[AnnotatedImage]:
    """Images of a list with the same layout and `x y w h` for each face.

    Args:
        labels: the list, names with their ending.
        images: folder the names are relative to.

    Raises:
        DataError: the file cannot be read, or a line is not what should stand there.
    """
    return _read(labels, images, "", 4, corners_from_xywh)


def ellipse_boxes(ellipses) -> np.ndarray:
    """[N, 5] major radius, minor radius, angle of the major axis in radians, cx, cy -> corners."""
    major, minor, angle, x, y = np.asarray(ellipses, np.float64).reshape(-1, 5).T
    half_width = np.hypot(major * np.cos(angle), minor * np.sin(angle))
    half_height = np.hypot(major * np.sin(angle), minor * np.cos(angle))
    corners = [x - half_width, y - half_height, x + half_width, y + half_height]
    return np.stack(corners, axis=1).astype(np.float32)


def read_fold_names(folds: Path | str) -> dict[str, int]:
    """Fold number by image name (without ending) from the ten `FDDB-fold-NN.txt` of a folder."""
    names = {}
    for path in sorted(Path(folds).glob("FDDB-fold-[0-9][0-9].txt")):
        names.update(dict.fromkeys(path.read_text().split(), int(path.stem[-2:])))
    return names


def _read(labels, images, ending: str, columns: int, to_boxes) -> list[AnnotatedImage]:
    lines, images, result = LabelLines(labels), Path(images), []
    while lines:
        name = lines.take("a file name")
        faces = [lines.take_numbers(columns)[:columns] for _ in range(lines.take_count())]
        result.append(AnnotatedImage(images / (name + ending), to_boxes(faces)))
    return result
