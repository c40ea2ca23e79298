"""From images to embeddings: the face of each image found, cut out or aligned, and embedded."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from retinaface_tf.errors import DataError, ImageError
from retinaface_tf.faces.faces import Faces
from retinaface_tf.geometry.similarity import square_around
from retinaface_tf.images.read import read_image
from retinaface_tf.images.warp import warp
from retinaface_tf.util.text_lines import TextLines

ALIGNMENTS = ("points", "box", "none")


def central_face(faces: Faces) -> int | None:
    """Index of the face a portrait is of: large and near the middle; None without faces.

    Area less twice the squared distance to the image's centre, as insightface picks it.
    """
    if not len(faces):
        return None
    boxes = faces.boxes.astype(np.float64)
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    offset = (boxes[:, :2] + boxes[:, 2:]) / 2 - np.array(faces.image_size[::-1]) / 2
    return int(np.argmax(area - 2 * np.sum(offset**2, axis=1)))


def square_crop(image: np.ndarray, box: np.ndarray, size: int) -> np.ndarray:
    """The square of a box's longer side around its middle, scaled.

    Args:
        image: uint8 RGB [H, W, 3].
        box: [4] x1, y1, x2, y2.
        size: side of the result.

    Returns:
        uint8 RGB [size, size, 3]; black where the square leaves the image.
    """
    return warp(image, square_around(box, size), (size, size))


def face_crops(
    detector, paths: Iterable[Path], alignment: str, size: int, batch_size: int = 8
) -> Iterator[tuple[np.ndarray, bool]]:
    """The face of each image.

    Args:
        paths: of the images.
        alignment: "points" turns and scales the five points onto the ArcFace template, "box" cuts
            out the detected box, "none" takes the whole image.
        size: side of the crops.

    Yields:
        uint8 RGB [size, size, 3], and whether a face was found; without one, the whole image's
        central square.

    Raises:
        DataError: an image cannot be read.
    """
    paths = iter(paths)
    while window := list(islice(paths, batch_size)):
        try:
            images = [read_image(path) for path in window]
        except ImageError as error:
            raise DataError(f"An image of the pairs cannot be used: {error}") from None
        answers = (
            detector.stream(images, batch_size=batch_size)
            if alignment != "none"
            else [Faces.empty(image.shape[:2]) for image in images]
        )
        for image, faces in zip(images, answers):
            if isinstance(faces, ImageError):
                raise DataError(f"An image of the pairs cannot be used: {faces}")
            index = central_face(faces)
            if index is None:
                height, width = image.shape[:2]
                side = min(height, width)
                left, top = (width - side) / 2, (height - side) / 2
                yield square_crop(image, [left, top, left + side, top + side], size), False
            elif alignment == "points":
                yield faces[index : index + 1].align(image, size)[0], True
            else:
                yield square_crop(image, faces.boxes[index], size), True


def read_templates(file: Path | str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Read IJB-C's `ijbc_face_tid_mid.txt`: lines `IMAGE TEMPLATE MEDIUM`.

    Returns:
        images; template ids int64 [N]; media ids int64 [N].

    Raises:
        DataError: with file and line.
    """
    return _read_columns(Path(file), "`IMAGE TEMPLATE MEDIUM`", (str, int, int))


def read_template_pairs(file: Path | str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read IJB-C's `ijbc_template_pair_label.txt`: lines `TEMPLATE TEMPLATE 0|1`.

    Returns:
        first and second template ids int64 [P]; same bool [P].
    """
    first, second, same = _read_columns(Path(file), "`TEMPLATE TEMPLATE 0|1`", (int, int, int))
    return first, second, same.astype(bool)


def _read_columns(file: Path, layout: str, types):
    lines, rows = TextLines(file), []
    while lines:
        line = lines.take(layout)
        try:
            rows.append([kind(word) for kind, word in zip(types, line.split(), strict=True)])
        except ValueError:
            raise lines.error(f"{line[:60]!r} is not {layout}") from None
    if not rows:
        raise DataError(f"{file} holds no line {layout}.")
    columns = zip(*rows)
    try:
        return tuple(
            list(column) if kind is str else np.array(column, np.int64)
            for kind, column in zip(types, columns)
        )
    except OverflowError:
        raise DataError(f"{file}: a number has more than 64 bits.") from None
