"""Labels as JSON lines: what `detect --json` writes, and what `data pseudo-label` adds to it.

    {"image": "folder/name.jpg", "faces": [{"box": [x1, y1, x2, y2], "landmarks": [[x, y] x5],
     "score": s, "ignored": true}]}

"landmarks", "score" and "ignored" may be missing; lines with an "error" are left out. Scores are what
`loss.score_targets` learns from.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from retinaface_tf.data.readers.annotation import AnnotatedImage
from retinaface_tf.data.readers.label_lines import LabelLines
from retinaface_tf.errors import DataError


def read_json_labels(labels: Path | str, images: Path | str) -> list[AnnotatedImage]:
    """Images of a file of JSON lines in its order; images without a face are kept.

    Args:
        labels: the file.
        images: folder the names in it are relative to.

    Raises:
        DataError: the file cannot be read, or a line is not such an object.
    """
    lines, images, result = LabelLines(labels), Path(images), []
    while lines:
        text = lines.take("an image")
        try:
            entry = json.loads(text)
            if "error" in entry:
                continue
            image = _read_entry(entry, images)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise lines.complaint(
                f"is no image with faces as `detect --json` writes them ({error!r})"
            ) from None
        result.append(image)
    return result


def _read_entry(entry: dict, images: Path) -> AnnotatedImage:
    faces = entry["faces"]
    points = [face.get("landmarks") for face in faces]
    unlabelled = np.full((5, 2), np.nan)
    return AnnotatedImage(
        images / entry["image"],
        np.array([face["box"] for face in faces], np.float32).reshape(-1, 4),
        np.array([unlabelled if p is None else p for p in points], np.float32),
        np.array([bool(face.get("ignored", False)) for face in faces], bool),
        scores=np.array([_score(face) for face in faces], np.float32),
    )


def _score(face: dict) -> float:
    score = face.get("score")
    if score is None:
        return np.nan
    if not 0 <= score <= 1:
        raise ValueError(f"a score of {score}, which has to be in 0..1")
    return score


def json_label_line(
    image: str,
    size: tuple[int, int],
    boxes: np.ndarray,
    scores: np.ndarray,
    landmarks: np.ndarray,
    ignored: np.ndarray,
) -> str:
    """One line of the file.

    Args:
        image: the image's name, relative to the folder of images.
        size: (height, width).
        boxes, scores, landmarks, ignored: [N, 4], [N], [N, 5, 2] with NaN where unknown, bool [N].

    Raises:
        DataError: a box is not finite.
    """
    if not np.isfinite(boxes).all():
        raise DataError(f"A box of {image} is not finite; it cannot be a label.")
    faces = []
    for box, score, points, ignore in zip(boxes, scores, landmarks, ignored):
        face = {"box": [round(float(v), 2) for v in box], "score": round(float(score), 4)}
        if np.isfinite(points).all():
            face["landmarks"] = [[round(float(v), 2) for v in point] for point in points]
        if ignore:
            face["ignored"] = True
        faces.append(face)
    return json.dumps({"image": image, "width": size[1], "height": size[0], "faces": faces})
