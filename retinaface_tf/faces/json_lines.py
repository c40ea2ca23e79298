"""The format of a JSON line: the faces of one image, for results, detections and labels.

    {"image": "folder/name.jpg", "width": W, "height": H, "faces": [{"box": [x1, y1, x2, y2],
     "score": s, "landmarks": [[x, y] x5], "ignored": true, "attributes": {"blur": 2}}]}

Pixels are those of the upright image. Only "image", "faces" and "box" are needed to read a line; a
landmark that is not known is null, and attributes are a labeller's. An image that could not be read has "error" in place of the faces.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from retinaface_tf.errors import DataError
from retinaface_tf.util.text_lines import MALFORMED, TextLines


class Digits(NamedTuple):
    """Decimal places of pixels and of scores."""

    pixels: int
    score: int


# Finer than any detector is right.
SHORT = Digits(2, 5)
# For curves over scores: rounding to fewer digits would make different scores equal.
EXACT = Digits(3, 7)


@dataclass(frozen=True, eq=False)
class FaceLine:
    """One line.

    Attributes:
        size: (height, width) in pixels, None where the line does not say.
        boxes: float64 [N, 4] corners x1, y1, x2, y2 in pixels.
        scores: float64 [N], NaN for a face without one.
        landmarks: float64 [N, 5, 2] in pixels, NaN where unknown.
        ignored: bool [N], faces that a detector should neither learn nor be blamed for.
        attributes: what else labels say of each face.
        error: why the image could not be read; None where it was.
        where: file and number of the line, for messages.
    """

    image: str
    size: tuple[int, int] | None
    boxes: np.ndarray
    scores: np.ndarray
    landmarks: np.ndarray
    ignored: np.ndarray
    attributes: list[dict[str, Any]] = field(default_factory=list)
    error: str | None = None
    where: str = ""


def read_face_lines(path: Path | str) -> Iterator[FaceLine]:
    """The lines of a file in its order.

    Raises:
        DataError: the file cannot be read, or a line is not such an object.
    """
    lines = TextLines(path)
    while lines:
        text = lines.take("an image")
        try:
            entry = json.loads(text)
        except (ValueError, RecursionError):
            raise lines.error(
                "not whole JSON, as where the command that wrote it was stopped; resume that "
                "command, or remove the line"
            ) from None
        yield parse_face_line(entry, f"{lines.path} line {lines.number}")


def parse_face_line(entry: dict[str, Any], where: str) -> FaceLine:
    """A line that was taken apart as JSON; `where` it stands is for messages.

    Raises:
        DataError: it is not such an object.
    """
    try:
        return _parsed(entry, where)
    except MALFORMED as error:
        raise DataError(
            f"{where}: not an object with image and faces (box of four numbers, score, landmarks) as "
            f"`detect --json` writes: {error!r}."
        ) from None


def _parsed(entry: dict[str, Any], where: str) -> FaceLine:
    faces = [] if "error" in entry else entry["faces"]
    unknown = [np.nan, np.nan]
    points = [face.get("landmarks") or [None] * 5 for face in faces]
    points = [[unknown if place is None else place for place in five] for five in points]
    scores = [face.get("score") for face in faces]
    return FaceLine(
        str(entry["image"]),
        (entry["height"], entry["width"]) if "height" in entry else None,
        np.array([face["box"] for face in faces], float).reshape(len(faces), 4),
        np.array([np.nan if s is None else s for s in scores], float).reshape(len(faces)),
        np.array(points, float).reshape(len(faces), 5, 2),
        np.array([bool(face.get("ignored")) for face in faces], bool),
        [dict(face.get("attributes") or {}) for face in faces],
        entry.get("error"),
        where,
    )


def face_entry(
    box: np.ndarray,
    score: float,
    landmarks: np.ndarray | None = None,
    ignored: bool = False,
    digits: Digits = SHORT,
) -> dict[str, Any]:
    """One face of a line; a score or landmarks that are NaN are left out, a
    single unknown landmark is null.

    Args:
        box: [4] corners in pixels.
        landmarks: [5, 2] pixels.
        ignored: whether the face is marked so.
    """
    entry: dict[str, Any] = {"box": [round(float(v), digits.pixels) for v in box]}
    if np.isfinite(score):
        entry["score"] = round(float(score), digits.score)
    if landmarks is not None and np.isfinite(landmarks).any():
        entry["landmarks"] = [
            [round(float(v), digits.pixels) for v in p] if np.isfinite(p).all() else None
            for p in landmarks
        ]
    if ignored:
        entry["ignored"] = True
    return entry


def face_line(
    image: str,
    size: tuple[int, int],
    boxes: np.ndarray,
    scores: np.ndarray,
    landmarks: np.ndarray | None = None,
    ignored: np.ndarray | None = None,
    digits: Digits = SHORT,
) -> str:
    """One line, without its end.

    Args:
        size: (height, width).
        boxes, scores, landmarks, ignored: [N, 4], [N], [N, 5, 2], bool [N]; NaN where unknown.

    Raises:
        DataError: a box is not finite.
    """
    if not np.isfinite(boxes).all():
        raise DataError(f"A box of {image} is not finite; it cannot be written.")
    count = len(boxes)
    points = [None] * count if landmarks is None else landmarks
    marks = [False] * count if ignored is None else ignored
    faces = [face_entry(*face, digits) for face in zip(boxes, scores, points, marks)]
    return json.dumps({"image": image, "width": size[1], "height": size[0], "faces": faces})
