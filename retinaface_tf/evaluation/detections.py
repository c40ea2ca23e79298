"""Detections on disk: WIDER FACE's text file an image, FDDB's lists, and this project's JSON lines.

All readers give a dict from image key to `ImageDetections`. A key is the image's path relative to
the data set, with `/` and without extension: `0--Parade/0_Parade_marchingband_1_465`. Errors name
the file and the line.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retinaface_tf.data.readers.annotation import corners_from_xywh
from retinaface_tf.data.readers.face_lists import ListedImage, read_face_list
from retinaface_tf.errors import DataError
from retinaface_tf.faces.json_lines import read_face_lines
from retinaface_tf.images.listing import IMAGE_SUFFIXES
from retinaface_tf.util.files import is_file, is_folder, is_special, write_whole


@dataclass(frozen=True)
class ImageDetections:
    """What a detector said about one image, best score first.

    Attributes:
        boxes: float64 [N, 4] x1, y1, x2, y2 in pixels.
        scores: float64 [N], falling.
        landmarks: float64 [N, 5, 2] x, y in pixels, or None.
    """

    boxes: np.ndarray
    scores: np.ndarray
    landmarks: np.ndarray | None = None

    def __iter__(self):
        return iter((self.boxes, self.scores))


NOTHING = ImageDetections(np.zeros((0, 4)), np.zeros(0))


def image_key(path: str, known: Iterable[str] | Mapping) -> str | None:
    """The known key that a path ends in, its image extension left out; None when there is none."""
    path = _without_extension(str(path).replace("\\", "/"))
    parts = [part for part in path.split("/") if part not in ("", ".")]
    keys = ("/".join(parts[start:]) for start in range(len(parts)))
    return next((key for key in keys if key in known), None)


def read_detections(path: Path | str, known: Iterable[str]) -> dict[str, ImageDetections]:
    """Read a folder of per-image text files, a JSON-lines file or an FDDB list, whichever it is.

    Args:
        path: a folder, a `.jsonl`/`.json` file, or a `.txt` file.
        known: keys of the data set's images.

    Raises:
        DataError: an image is unknown or comes twice, a file is cut short, or a value cannot be
            right: the message names the file and the line.
    """
    path, known = Path(path), set(known)
    if is_folder(path):
        return read_text_folder(path, known)
    if not is_file(path) and not is_special(path):
        raise DataError(f"{path} does not exist; give a folder or a file of detections.")
    if path.suffix == ".txt":
        return read_text_list(path, known)
    return read_json_lines(path, known)


def read_text_folder(folder: Path | str, known: Iterable[str]) -> dict[str, ImageDetections]:
    """Read WIDER FACE's submission format: `EVENT/IMAGE.txt`.

    A file holds the image's name, the number of detections, and that many lines `x y w h score`, in
    any order. Errors as in `read_detections`.
    """
    folder, known = Path(folder), set(known)
    found = {}
    for file in sorted(folder.rglob("*.txt")):
        key = named = file.relative_to(folder).with_suffix("").as_posix()
        if key not in known:
            # Images with a dot in the name, or files written as NAME.jpg.txt.
            key = image_key(key, known) if key.count("/") else None
        if key is None:
            raise _unknown(named, f"{file} line 1")
        images = list(read_face_list(file, 5))
        if len(images) != 1:
            raise DataError(f"{file} holds {len(images)} images; each image has a file of its own.")
        name = images[0].name
        if Path(image_key(name, known) or _without_extension(name)).name != Path(key).name:
            raise DataError(
                f"{file} line 1: names image {name!r}, but the file is that of {key!r}."
            )
        found[key] = _detections(images[0], file)
    if not found:
        raise DataError(f"{folder} holds no EVENT/IMAGE.txt file of detections.")
    return found


def read_text_list(file: Path | str, known: Iterable[str]) -> dict[str, ImageDetections]:
    """Read one file of many images: name, number of detections, lines `x y w h score`, and again.

    This is FDDB's format for rectangles. Errors as in `read_detections`.
    """
    known = set(known)
    found: dict[str, ImageDetections] = {}
    for image in read_face_list(file, 5):
        key = _new_key(image.name, known, found, f"{file} line {image.lines[0]}")
        found[key] = _detections(image, file)
    return found


def read_json_lines(file: Path | str, known: Iterable[str]) -> dict[str, ImageDetections]:
    """Read what `retinaface-tf detect --json` writes, one image a line.

    An image that could not be read has no detections. Errors as in `read_detections`.
    """
    known = set(known)
    found: dict[str, ImageDetections] = {}
    for line in read_face_lines(file):
        key = _new_key(line.image, known, found, line.where)
        _check(line.boxes, line.scores, lambda i, line=line: f"{line.where}, face {i + 1}")
        known_points = len(line.boxes) and np.isfinite(line.landmarks).all()
        found[key] = _sorted(line.boxes, line.scores, line.landmarks if known_points else None)
    return found


def text_files(folder: Path | str, keys: Iterable[str]) -> list[Path]:
    """The files that `write_text_folder` writes for detections of these images."""
    return [Path(folder) / f"{key}.txt" for key in keys]


def write_text_folder(folder: Path | str, detections: Mapping[str, ImageDetections]) -> None:
    """Write WIDER FACE's submission format: one `EVENT/IMAGE.txt` a key, sorted by score.

    Raises:
        DataError: a file cannot be written.
    """
    for key, found in detections.items():
        order = np.argsort(-found.scores, kind="stable")
        rows = [Path(key).name + ".jpg", str(len(order))]
        for (x1, y1, x2, y2), score in zip(found.boxes[order], found.scores[order]):
            rows.append(f"{x1:.3f} {y1:.3f} {x2 - x1:.3f} {y2 - y1:.3f} {score:.8f}")
        (path,) = text_files(folder, [key])
        write_whole(path, "\n".join(rows) + "\n", error=DataError)


def _without_extension(name: str) -> str:
    extension = Path(name).suffix
    return name.removesuffix(extension) if extension.lower() in IMAGE_SUFFIXES else name


def _unknown(name: str, where: str) -> DataError:
    return DataError(
        f"{where}: no image of the data set is called {name!r}; remove it or give the ground truth "
        "it belongs to."
    )


def _new_key(name: str, known: set[str], found: Mapping, where: str) -> str:
    key = image_key(name, known)
    if key is None:
        raise _unknown(name, where)
    if key in found:
        raise DataError(f"{where}: image {key!r} occurs twice.")
    return key


def _detections(image: ListedImage, file: Path | str) -> ImageDetections:
    for row, line in zip(image.rows, image.lines[1:]):
        if len(row) != 5:
            raise DataError(f"{file} line {line}: {len(row)} numbers, not five: `x y w h score`.")
    boxes = corners_from_xywh(image.columns(0, 4))
    scores = image.columns(4, 5)[:, 0]
    _check(boxes, scores, lambda i: f"{file} line {image.lines[1 + i]}")
    return _sorted(boxes, scores)


def _sorted(
    boxes: np.ndarray, scores: np.ndarray, landmarks: np.ndarray | None = None
) -> ImageDetections:
    """Best first, equal scores by their boxes: the order of a file's rows changes no figure."""
    order = np.lexsort((*boxes.T[::-1], -scores))
    return ImageDetections(
        boxes[order], scores[order], None if landmarks is None else landmarks[order]
    )


def _check(boxes: np.ndarray, scores: np.ndarray, where: Callable[[int], str]) -> None:
    """Refuse NaN and inverted boxes; `where(i)` names detection i."""
    table = np.column_stack([boxes, scores])
    bad = np.flatnonzero(~np.isfinite(table).all(axis=1))
    if len(bad):
        raise DataError(
            f"{where(bad[0])}: {_numbers(table[bad[0]])} is not finite; every number must be."
        )
    bad = np.flatnonzero((boxes[:, 2:] < boxes[:, :2]).any(axis=1))
    if len(bad):
        raise DataError(
            f"{where(bad[0])}: the box {_numbers(boxes[bad[0]])} (x1, y1, x2, y2) ends before it "
            "begins."
        )


def _numbers(row: np.ndarray) -> str:
    return " ".join(f"{v:g}" for v in row)
