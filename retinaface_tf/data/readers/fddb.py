"""FDDB's labels (Jain and Learned-Miller 2010): ellipses, or boxes drawn around them."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from retinaface_tf.data.readers.annotation import (
    AnnotatedImage,
    LabelledImage,
    corners_from_xywh,
    decimals_xywh,
)
from retinaface_tf.data.readers.face_lists import number_line, read_face_list
from retinaface_tf.errors import DataError
from retinaface_tf.util.files import is_folder
from retinaface_tf.util.text_lines import read_text


def read_ellipses(lists: Path | str) -> dict[str, np.ndarray]:
    """The ellipses of `FDDB-fold-NN-ellipseList.txt`.

    Args:
        lists: one list, or the folder of the ten.

    Returns:
        image name without ending (`2002/08/11/big/img_591`) -> float64 [M, 5] major radius, minor
        radius, angle of the major axis to the x axis in radians, centre x, centre y; pixels.

    Raises:
        DataError: there is no list, or a line is not what should stand there.
    """
    lists = Path(lists)
    files = sorted(lists.glob("*ellipseList.txt")) if is_folder(lists) else [lists]
    if not files:
        raise DataError(f"{lists} holds no FDDB-fold-XX-ellipseList.txt.")
    return {image.name: image.columns(0, 5) for file in files for image in read_face_list(file, 5)}


def read_fddb_ellipses(labels: Path | str, images: Path | str) -> list[AnnotatedImage]:
    """Images of `FDDB-fold-NN-ellipseList.txt`; each box just holds its ellipse.

    The ellipses go up to the crown, so these boxes are taller than WIDER FACE's.

    Args:
        labels: one list, or the folder of the ten.
        images: folder `originalPics`; ".jpg" is added to the names.

    Raises:
        DataError: the file cannot be read, or a line is not what should stand there.
    """
    return [
        AnnotatedImage(Path(images) / f"{name}.jpg", ellipse_boxes(ellipses))
        for name, ellipses in read_ellipses(labels).items()
    ]


def read_fddb_boxes(labels: Path | str, images: Path | str) -> list[AnnotatedImage]:
    """Images of a list with the same layout and `x y w h` for each face.

    Args:
        images: folder the names are relative to.

    Raises:
        DataError: the file cannot be read, or a line is not what should stand there.
    """
    return [
        AnnotatedImage(Path(images) / image.name, corners_from_xywh(image.columns(0, 4)))
        for image in read_face_list(labels, 4)
    ]


def write_fddb_ellipses(entries: Sequence[LabelledImage]) -> str:
    """An ellipse list, with the upright ellipse that just fits each box.

    Raises:
        DataError: an image is no `.jpg`, which such a list takes every image for.
    """
    text = []
    for name, _, image in entries:
        if PurePosixPath(name).suffix != ".jpg":
            raise DataError(f"{name} cannot be in a list of FDDB's, whose images are all .jpg.")
        text += [f"{name[:-4]}\n", f"{len(image.boxes)}\n"]
        for x1, y1, x2, y2 in image.boxes.astype(np.float64):
            a, b, angle = (x2 - x1) / 2, (y2 - y1) / 2, 0.0
            if b > a:
                a, b, angle = b, a, np.pi / 2
            text.append(number_line([a, b, angle, (x1 + x2) / 2, (y1 + y2) / 2, 1]))
    return "".join(text)


def write_fddb_boxes(entries: Sequence[LabelledImage]) -> str:
    """The list that `read_fddb_boxes` reads."""
    text = []
    for name, _, image in entries:
        text += [f"{name}\n", f"{len(image.boxes)}\n"]
        text += [number_line(box) for box in decimals_xywh(image.boxes)]
    return "".join(text)


def ellipse_boxes(ellipses) -> np.ndarray:
    """[N, 5] of `read_ellipses` -> float32 [N, 4] corners of the boxes that just hold them."""
    major, minor, angle, x, y = np.asarray(ellipses, np.float64).reshape(-1, 5).T
    half_width = np.hypot(major * np.cos(angle), minor * np.sin(angle))
    half_height = np.hypot(major * np.sin(angle), minor * np.cos(angle))
    corners = [x - half_width, y - half_height, x + half_width, y + half_height]
    return np.stack(corners, axis=1).astype(np.float32)


def read_fold_names(folds: Path | str) -> dict[str, int]:
    """Fold number by image name (without ending) from the ten `FDDB-fold-NN.txt` of a folder."""
    names = {}
    for path in sorted(Path(folds).glob("FDDB-fold-[0-9][0-9].txt")):
        names.update(dict.fromkeys(read_text(path).split(), int(path.stem[-2:])))
    return names
