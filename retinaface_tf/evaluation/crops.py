"""Where a detector went wrong, cut out of the images: the worst misses and false positives."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retinaface_tf.errors import ImageError
from retinaface_tf.evaluation.average_precision import FALSE_POSITIVE, TRUE_POSITIVE, outcomes
from retinaface_tf.evaluation.detections import ImageDetections
from retinaface_tf.evaluation.widerface import WiderFaceResult
from retinaface_tf.geometry.boxes import area
from retinaface_tf.geometry.similarity import square_around
from retinaface_tf.images.read import read_image
from retinaface_tf.images.warp import warp

MISS_COLOR, WRONG_COLOR, TRUTH_COLOR = (255, 60, 60), (255, 170, 0), (80, 220, 80)
SIDE, COUNT = 168, 24


@dataclass(frozen=True)
class Crop:
    """An image and what it shows.

    Attributes:
        pixels: uint8 RGB [168, 168, 3].
        caption: one short line.
    """

    pixels: np.ndarray
    caption: str


def worst_misses(result: WiderFaceResult, files: Mapping[str, Path]) -> list[Crop]:
    """Faces of the hard subset that were not found, largest first, then those with least score.

    Args:
        result: of `evaluate_widerface`.
        files: image key -> file; faces of images without a readable one are left out.
    """
    matches, wanted = result.matches, result.wanted("hard")
    found = outcomes(matches, ~wanted) == TRUE_POSITIVE
    score = np.full(matches.num_faces, -1.0)
    score[matches.face[found]] = matches.scores[found]
    image_of = np.repeat(np.arange(len(matches.faces_per_image)), matches.faces_per_image)
    boxes = np.concatenate([np.zeros((0, 4)), *result.truth.boxes])
    chosen = np.flatnonzero(wanted)
    chosen = chosen[np.lexsort((-area(boxes[chosen]), score[chosen]))]

    def describe(face):
        width, height = boxes[face, 2:] - boxes[face, :2]
        state = "not found" if score[face] < 0 else f"found late, {score[face]:.3f}"
        return f"{width:.0f}×{height:.0f} px, {state}"

    candidates = ((image_of[face], boxes[face], describe(face)) for face in chosen)
    return _crops(result, files, candidates, MISS_COLOR)


def worst_false_positives(
    result: WiderFaceResult,
    detections: Mapping[str, ImageDetections],
    files: Mapping[str, Path],
) -> list[Crop]:
    """False positives of highest score, with annotated faces near them; arguments as `worst_misses`."""
    matches = result.matches
    wrong = np.flatnonzero(outcomes(matches, ~result.wanted("hard")) == FALSE_POSITIVE)
    wrong = wrong[np.argsort(-matches.scores[wrong], kind="stable")]

    def describe(index, score):
        overlap = matches.iou[index]
        if overlap >= 0.5:
            return f"{score:.3f}, second on a face (IoU {overlap:.2f})"
        if overlap > 0.1:
            return f"{score:.3f}, off a face (IoU {overlap:.2f})"
        return f"{score:.3f}, no annotated face"

    def candidates():
        for index in wrong:
            image = matches.image[index]
            found = detections[result.truth.images[image]]
            place = matches.order[index]
            yield image, found.boxes[place], describe(index, found.scores[place])

    return _crops(result, files, candidates(), WRONG_COLOR, with_truth=True)


def _crops(result, files, candidates, color, with_truth: bool = False) -> list[Crop]:
    """The first `COUNT` of (image number, box, text) whose image can be read."""
    crops: list[Crop] = []
    for image, box, text in candidates:
        key = result.truth.images[image]
        if key not in files:
            continue
        try:
            pixels = read_image(files[key])
        except ImageError:
            continue
        others = result.truth.boxes[image] if with_truth else ()
        crops.append(Crop(cut_out(pixels, box, color, others), f"{Path(key).name}: {text}"))
        if len(crops) == COUNT:
            break
    return crops


def cut_out(
    image: np.ndarray,
    box: np.ndarray,
    color: tuple[int, int, int],
    others: Sequence[np.ndarray] = (),
) -> np.ndarray:
    """A square around a box, three times its longer side, with the box drawn.

    Args:
        image: uint8 RGB [H, W, 3].
        box: [4] x1, y1, x2, y2.
        others: boxes [4] drawn in green.

    Returns:
        uint8 RGB [168, 168, 3]; dark where the square leaves the image.
    """
    import cv2

    side = float(np.max(box[2:] - box[:2]))
    matrix = square_around(box, SIDE, context=max(3.0, 48.0 / max(side, 1e-6)))
    crop = warp(image, matrix, (SIDE, SIDE), fill=40)
    for corners, tint in (*((other, TRUTH_COLOR) for other in others), (box, color)):
        corners = np.reshape(corners, (2, 2)) * matrix[0, 0] + matrix[:, 2]
        (x1, y1), (x2, y2) = np.rint(np.clip(corners, -1000, 1000)).astype(int).tolist()
        cv2.rectangle(crop, (x1, y1), (x2, y2), tint, 2)
    return crop
