"""Where a detector went wrong, cut out of the images: the worst misses and false alarms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retinaface_tf.errors import ImageError
from retinaface_tf.evaluation.average_precision import TRUE_POSITIVE, FALSE_POSITIVE, outcomes
from retinaface_tf.evaluation.detections import ImageDetections
from retinaface_tf.evaluation.widerface import WiderFaceResult

MISS_COLOR, ALARM_COLOR, TRUTH_COLOR = (255, 60, 60), (255, 170, 0), (80, 220, 80)
SIDE = 168


@dataclass(frozen=True)
class Crop:
    """An image and what it shows.

    Attributes:
        pixels: uint8 RGB [168, 168, 3].
        caption: one short line.
    """

    pixels: np.ndarray
    caption: str


def worst_misses(
    result: WiderFaceResult, pictures: Mapping[str, Path], subset: str = "hard", count: int = 24
) -> list[Crop]:
    """Faces the subset asks for that were not found, largest first, then those with least score."""
    matches = result.matches
    state = outcomes(matches, ~result.wanted(subset))
    score = np.full(matches.num_faces, -1.0)
    score[matches.face[state == TRUE_POSITIVE]] = matches.scores[state == TRUE_POSITIVE]
    image_of = np.repeat(np.arange(matches.num_images), matches.faces_per_image)
    boxes = np.concatenate([np.zeros((0, 4)), *result.truth.boxes])
    sizes = np.sqrt(np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1))
    chosen = np.flatnonzero(result.wanted(subset))
    order = chosen[np.lexsort((-sizes[chosen], score[chosen]))]
    crops: list[Crop] = []
    for face in order:
        key = result.truth.images[image_of[face]]
        state_text = "not found" if score[face] < 0 else f"found late, {score[face]:.3f}"
        width, height = boxes[face, 2:] - boxes[face, :2]
        caption = f"{Path(key).name}: {width:.0f}×{height:.0f} px, {state_text}"
        _add(crops, pictures.get(key), boxes[face], MISS_COLOR, np.zeros((0, 4)), caption)
        if len(crops) == count:
            break
    return crops


def worst_false_alarms(
    result: WiderFaceResult,
    detections: Mapping[str, ImageDetections],
    pictures: Mapping[str, Path],
    subset: str = "hard",
    count: int = 24,
) -> list[Crop]:
    """Wrong detections of highest score; annotated faces near them are drawn in green."""
    matches = result.matches
    state = outcomes(matches, ~result.wanted(subset))
    wrong = np.flatnonzero(state == FALSE_POSITIVE)
    crops: list[Crop] = []
    for index in wrong[np.argsort(-matches.scores[wrong], kind="stable")]:
        number = matches.image[index]
        key = result.truth.images[number]
        box = detections[key].boxes[matches.order[index]]
        raw = detections[key].scores[matches.order[index]]
        overlap = matches.iou[index]
        if overlap >= 0.5:
            why = f"second on a face (IoU {overlap:.2f})"
        elif overlap > 0.1:
            why = f"off a face (IoU {overlap:.2f})"
        else:
            why = "no annotated face"
        caption = f"{Path(key).name}: {raw:.3f}, {why}"
        _add(crops, pictures.get(key), box, ALARM_COLOR, result.truth.boxes[number], caption)
        if len(crops) == count:
            break
    return crops


def _add(crops, path: Path | None, box, color, others, caption) -> None:
    from retinaface_tf.images.read import read_image

    if path is None:
        return
    try:
        picture = read_image(path)
    except ImageError:
        return
    crops.append(Crop(cut_out(picture, box, color, others), caption))


def cut_out(
    picture: np.ndarray, box: np.ndarray, color: tuple[int, int, int], others: np.ndarray
) -> np.ndarray:
    """A square around a box, three times its longer side, with the box drawn.

    Args:
        image: uint8 RGB [H, W, 3].
        box: [4] x1, y1, x2, y2.
        color: of the box, RGB.
        others: [M, 4] boxes drawn in green.

    Returns:
        uint8 RGB [168, 168, 3]; dark where the square leaves the image.
    """
    import cv2

    center = (box[:2] + box[2:]) / 2
    side = max(3 * float(np.max(box[2:] - box[:2])), 48.0)
    scale = SIDE / side
    matrix = np.array(
        [
            [scale, 0, SIDE / 2 - scale * center[0]],
            [0, scale, SIDE / 2 - scale * center[1]],
        ]
    )
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    # warpAffine does not average; shrink first, so that large faces do not turn to noise.
    if scale < 0.5:
        factor = 2 * scale
        picture = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        applied = matrix.copy()
        applied[:, :2] /= factor
    else:
        applied = matrix
    crop = cv2.warpAffine(picture, applied, (SIDE, SIDE), flags=method, borderValue=(40, 40, 40))
    for other in others:
        _draw(crop, other, matrix, TRUTH_COLOR)
    _draw(crop, box, matrix, color)
    return crop


def _draw(crop, box, matrix, color) -> None:
    import cv2

    corners = np.reshape(box, (2, 2)) * np.diag(matrix[:, :2]) + matrix[:, 2]
    (x1, y1), (x2, y2) = np.rint(np.clip(corners, -1000, 1000)).astype(int).tolist()
    cv2.rectangle(crop, (x1, y1), (x2, y2), color, 2)
