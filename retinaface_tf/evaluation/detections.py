"""Detections on disk: WIDER FACE's text file an image, FDDB's lists, and this project's JSON lines.

All readers give a dict from image key to `ImageDetections`. A key is the image's path relative to
the data set, with `/` and without extension: `0--Parade/0_Parade_marchingband_1_465`. What a reader
refuses it refuses with the file and the line.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retinaface_tf.errors import RetinaFaceError

IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm")


class DetectionsError(RetinaFaceError):
    """A file of detections or annotations cannot be used; the message names file and line."""


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
    for start in range(len(parts)):
        key = "/".join(parts[start:])
        if key in known:
            return key
    return None


def read_detections(path: Path | str, known: Iterable[str]) -> dict[str, ImageDetections]:
    """Read a folder of per-image text files, a JSON-lines file or an FDDB list, whichever it is.

    Args:
        path: a folder, a `.jsonl`/`.json` file, or a `.txt` file.
        known: keys of the data set's images.
    """
    path, known = Path(path), set(known)
    if path.is_dir():
        return read_text_folder(path, known)
    if not path.is_file():
        raise DetectionsError(f"{path} does not exist; give a folder or a file of detections.")
    if path.suffix == ".txt":
        return read_text_list(path, known)
    return read_json_lines(path, known)


def read_text_folder(folder: Path | str, known: Iterable[str]) -> dict[str, ImageDetections]:
    """Read WIDER FACE's submission format: `EVENT/IMAGE.txt`.

    A file holds the image's name, the number of detections, and that many lines `x y w h score` with
    falling scores.

    Raises:
        DetectionsError: a file belongs to no known image, is cut short, or has a value that cannot
            be: the message names the file and the line.
    """
    folder, known = Path(folder), set(known)
    found = {}
    for file in sorted(folder.rglob("*.txt")):
        key = file.relative_to(folder).with_suffix("").as_posix()
        if key not in known:
            # Images with a dot in the name, or files written as NAME.jpg.txt.
            key = image_key(key, known) if key.count("/") else None
        if key is None:
            raise DetectionsError(
                f"{file} line 1: no image of the data set is called "
                f"{file.relative_to(folder).with_suffix('').as_posix()!r}; "
                "remove the file or give the ground truth it belongs to."
            )
        lines = _read_text(file).splitlines()
        name = lines[0].strip() if lines else ""
        if Path(image_key(name, known) or _without_extension(name)).name != Path(key).name:
            raise DetectionsError(
                f"{file} line 1: names image {name!r}, but the file is that of {key!r}."
            )
        found[key], end = _read_block(file, lines, 1)
        if any(line.strip() for line in lines[end:]):
            raise DetectionsError(
                f"{file} line {end + 1}: more lines follow than line 2 announces ({lines[1]})."
            )
    if not found:
        raise DetectionsError(f"{folder} holds no EVENT/IMAGE.txt file of detections.")
    return found


def read_text_list(file: Path | str, known: Iterable[str]) -> dict[str, ImageDetections]:
    """Read one file of many images: name, number of detections, lines `x y w h score`, and again.

    This is FDDB's format for rectangles. Errors as in `read_text_folder`.
    """
    file, known = Path(file), set(known)
    lines = _read_text(file).splitlines()
    found, at = {}, 0
    while at < len(lines):
        if not lines[at].strip():
            at += 1
            continue
        key = _known_key(lines[at].strip(), known, file, at + 1)
        if key in found:
            raise DetectionsError(f"{file} line {at + 1}: image {key!r} comes a second time.")
        found[key], at = _read_block(file, lines, at + 1)
    return found


def read_json_lines(file: Path | str, known: Iterable[str]) -> dict[str, ImageDetections]:
    """Read what `retinaface-tf detect --json` writes, one image a line.

    An image that could not be read (`"error"` instead of faces) has no detections.

    Raises:
        DetectionsError: as in `read_text_folder`.
    """
    file, known = Path(file), set(known)
    found = {}
    for number, line in enumerate(_read_text(file).splitlines(), 1):
        if not line.strip():
            continue
        where = f"{file} line {number}"
        try:
            entry = json.loads(line)
            name = entry["image"]
            faces = [] if "error" in entry else entry["faces"]
            boxes = np.array([face["box"] for face in faces], np.float64).reshape(-1, 4)
            scores = np.array([face["score"] for face in faces], np.float64)
            landmarks = None
            if faces and all(face.get("landmarks") is not None for face in faces):
                landmarks = np.array([f["landmarks"] for f in faces], np.float64).reshape(-1, 5, 2)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DetectionsError(
                f"{where}: not an object with image and faces (box of four numbers, score): {error}."
            ) from None
        key = _known_key(name, known, file, number)
        if key in found:
            raise DetectionsError(f"{where}: image {key!r} comes a second time.")
        _check(boxes, scores, lambda i, where=where: f"{where}, face {i + 1}")
        if landmarks is not None and not np.isfinite(landmarks).all():
            raise DetectionsError(f"{where}: a landmark is not a finite number.")
        found[key] = ImageDetections(boxes, scores, landmarks)
    return found


def write_text_folder(
    folder: Path | str, detections: Mapping[str, ImageDetections], extension: str = ".jpg"
) -> None:
    """Write WIDER FACE's submission format: one `EVENT/IMAGE.txt` a key, sorted by score.

    Args:
        folder: made if need be; files in it are replaced one by one, each at once.
        detections: by image key.
        extension: put behind the image's name in the first line.
    """
    folder = Path(folder)
    for key, found in detections.items():
        order = np.argsort(-found.scores, kind="stable")
        rows = [Path(key).name + extension, str(len(order))]
        for (x1, y1, x2, y2), score in zip(found.boxes[order], found.scores[order]):
            rows.append(f"{x1:.3f} {y1:.3f} {x2 - x1:.3f} {y2 - y1:.3f} {score:.8f}")
        file = folder / f"{key}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, "\n".join(rows) + "\n")


def json_line(key: str, found: ImageDetections, width: int, height: int) -> str:
    """One line of `detect --json`, coordinates to a thousandth of a pixel."""
    faces = []
    for index, (box, score) in enumerate(zip(found.boxes, found.scores)):
        face = {"box": [round(float(v), 3) for v in box], "score": round(float(score), 7)}
        if found.landmarks is not None:
            face["landmarks"] = [[round(float(v), 3) for v in p] for p in found.landmarks[index]]
        faces.append(face)
    return json.dumps({"image": key, "width": width, "height": height, "faces": faces})


def write_whole(file: Path, text: str) -> None:
    """Write a text file under a temporary name beside it, then rename: never half a file."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(file)


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DetectionsError(f"{file} cannot be read as text: {error}.") from None


def _without_extension(name: str) -> str:
    extension = Path(name).suffix
    return name.removesuffix(extension) if extension.lower() in IMAGE_EXTENSIONS else name


def _known_key(name: str, known: set[str], file: Path, line: int) -> str:
    key = image_key(name, known)
    if key is None:
        raise DetectionsError(
            f"{file} line {line}: no image of the data set is called {name!r}; "
            "remove the entry or give the ground truth it belongs to."
        )
    return key


def _read_block(file: Path, lines: list[str], at: int) -> tuple[ImageDetections, int]:
    """The count on line `at` (from 0) and the rows after it; also the line behind them."""
    try:
        count = int(lines[at]) if at < len(lines) else -1
    except ValueError:
        count = -1
    if count < 0:
        raise DetectionsError(f"{file} line {at + 1}: the number of detections should stand here.")
    rows = lines[at + 1 : at + 1 + count]
    if len(rows) < count:
        raise DetectionsError(
            f"{file} line {len(lines)}: the file ends after {len(rows)} of {count} detections."
        )
    try:
        table = np.array([row.split() for row in rows], np.float64).reshape(-1, 5)
        if len(table) != count:
            raise ValueError
    except ValueError:
        raise DetectionsError(_first_bad_row(file, rows, at + 2)) from None
    boxes = table[:, :4].copy()
    boxes[:, 2:] += boxes[:, :2]
    _check(boxes, table[:, 4], lambda i: f"{file} line {at + 2 + i}")
    return ImageDetections(boxes, table[:, 4].copy()), at + 1 + count


def _first_bad_row(file: Path, rows: list[str], first_line: int) -> str:
    for number, row in enumerate(rows, first_line):
        try:
            if len([float(word) for word in row.split()]) == 5:
                continue
        except ValueError:
            pass
        return f"{file} line {number}: {row.strip()!r} is not five numbers `x y w h score`."
    return f"{file} line {first_line}: the rows are not five numbers each."


def _check(boxes: np.ndarray, scores: np.ndarray, where) -> None:
    """Refuse NaN, inverted boxes and scores out of order; `where(i)` names detection i."""
    table = np.column_stack([boxes, scores])
    bad = np.flatnonzero(~np.isfinite(table).all(axis=1))
    if len(bad):
        raise DetectionsError(
            f"{where(bad[0])}: {_numbers(table[bad[0]])} is not finite; every number must be."
        )
    bad = np.flatnonzero((boxes[:, 2:] < boxes[:, :2]).any(axis=1))
    if len(bad):
        raise DetectionsError(
            f"{where(bad[0])}: the box {_numbers(boxes[bad[0]])} (x1, y1, x2, y2) ends before it "
            "begins."
        )
    bad = np.flatnonzero(scores[1:] > scores[:-1])
    if len(bad):
        i = int(bad[0]) + 1
        raise DetectionsError(
            f"{where(i)}: score {scores[i]:g} follows the lower {scores[i - 1]:g}; detections must be "
            "sorted by falling score."
        )


def _numbers(row: np.ndarray) -> str:
    return " ".join("nan" if math.isnan(v) else f"{v:g}" for v in row)
