"""Average precision: detections matched to faces, precision-recall curves, the area under them.

The matching is PASCAL VOC's and WIDER FACE's: in falling order of score each detection goes to the
face it overlaps most; the first one at or above the IoU threshold is a true positive, a later one on
the same face a false positive, and one on an ignored face does not count.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retinaface_tf.geometry.boxes import pairwise_iou

TRUE_POSITIVE, FALSE_POSITIVE, IGNORED = 1, 0, -1

# Of an image: boxes [N, 4] x1, y1, x2, y2 in pixels, scores [N].
Detections = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Matches:
    """Every detection of a set of images with the face it overlaps most.

    Detections are ordered by image, inside an image by falling score (equal scores keep their
    input order). Faces of all images are numbered through.

    Attributes:
        scores: float64 [D].
        image: int64 [D] image of the detection, 0..I-1.
        face: int64 [D] number of the face of largest IoU (the first of equals), -1 where the image
            has none.
        iou: float64 [D] IoU with that face, 0 where there is none.
        order: int64 [D] position of the detection in its image's input.
        faces_per_image: int64 [I].
    """

    scores: np.ndarray
    image: np.ndarray
    face: np.ndarray
    iou: np.ndarray
    order: np.ndarray
    faces_per_image: np.ndarray

    @property
    def num_faces(self) -> int:
        """Faces of all images together, ignored ones too."""
        return int(self.faces_per_image.sum())


@dataclass(frozen=True)
class Curve:
    """A precision-recall curve, from the highest threshold to the lowest.

    Attributes:
        thresholds: float64 [T] score from which detections count, falling.
        true_positives: int64 [T] at that threshold.
        counted: int64 [T] true and false positives.
        num_faces: faces that are not ignored.
    """

    thresholds: np.ndarray
    true_positives: np.ndarray
    counted: np.ndarray
    num_faces: int

    @property
    def recall(self) -> np.ndarray:
        """float64 [T] in 0..1; 0 when there is no face to find."""
        return self.true_positives / max(self.num_faces, 1)

    @property
    def precision(self) -> np.ndarray:
        """float64 [T] in 0..1; 0 where nothing counts."""
        return self.true_positives / np.maximum(self.counted, 1)

    @property
    def average_precision(self) -> float:
        """Area under the monotone envelope; NaN when there is no face to find."""
        if self.num_faces == 0:
            return float("nan")
        return float(area_under_envelope(self.recall, self.precision))


def match_detections(
    detections: Sequence[Detections],
    faces: Sequence[np.ndarray],
    inclusive: bool = False,
) -> Matches:
    """Find for each detection the face it overlaps most.

    Args:
        detections: of each image, in any order.
        faces: boxes [M, 4] x1, y1, x2, y2 of each image's faces, ignored ones included.
        inclusive: count boxes in whole pixels from x1 to x2 with both ends, as WIDER FACE does:
            sides are x2 - x1 + 1.

    Raises:
        ValueError: the two lists differ in length, or boxes and scores of an image do.
    """
    if len(detections) != len(faces):
        raise ValueError(f"{len(detections)} images with detections, but {len(faces)} with faces.")
    counts = np.array([len(boxes) for boxes in faces], np.int64)
    first_face = np.concatenate([[0], np.cumsum(counts)])
    parts = []
    for index, ((boxes, scores), truth) in enumerate(zip(detections, faces)):
        boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
        scores = np.asarray(scores, np.float64).reshape(-1)
        if len(boxes) != len(scores):
            raise ValueError(f"Image {index} has {len(boxes)} boxes but {len(scores)} scores.")
        order = np.argsort(-scores, kind="stable")
        face, iou = best_overlap(boxes[order], np.asarray(truth, np.float64), inclusive)
        number = np.where(face >= 0, face + first_face[index], -1)
        parts.append((scores[order], np.full(len(order), index), number, iou, order))
    columns = [np.concatenate(column) for column in zip(*parts)] if parts else [np.empty(0)] * 5
    types = (np.float64, np.int64, np.int64, np.float64, np.int64)
    scores, image, face, iou, order = (c.astype(t, copy=False) for c, t in zip(columns, types))
    return Matches(scores, image, face, iou, order, counts)


def best_overlap(
    boxes: np.ndarray, faces: np.ndarray, inclusive: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """For each box [N, 4] the index int64 [N] of the face [M, 4] of largest IoU, and that IoU [N].

    Boxes are x1, y1, x2, y2. Equal IoUs: the first face. Without faces: -1 and 0. `inclusive` as in
    `match_detections`.
    """
    if len(boxes) == 0 or faces.size == 0:
        return np.full(len(boxes), -1, np.int64), np.zeros(len(boxes))
    both_ends = np.array([0, 0, 1, 1]) if inclusive else 0
    iou = pairwise_iou(boxes + both_ends, faces + both_ends)
    face = iou.argmax(axis=1)
    return face, iou[np.arange(len(boxes)), face]


def outcomes(matches: Matches, ignored: np.ndarray, iou_threshold: float = 0.5) -> np.ndarray:
    """int8 [D]: `TRUE_POSITIVE`, `FALSE_POSITIVE` or `IGNORED` (on an ignored face).

    Args:
        ignored: bool [F] over the faces of all images in order.
        iou_threshold: least IoU, itself included, of a detection with its face.
    """
    hit = np.flatnonzero((matches.iou >= iou_threshold) & (matches.face >= 0))
    face = matches.face[hit]
    # Assigned backwards, so the first detection of a face stays: numpy keeps the last value.
    first = np.full(matches.num_faces, -1, np.int64)
    first[face[::-1]] = hit[::-1]
    result = np.full(len(matches.scores), FALSE_POSITIVE, np.int8)
    result[hit[first[face] == hit]] = TRUE_POSITIVE
    result[hit[np.asarray(ignored, bool)[face]]] = IGNORED
    return result


def precision_recall_curve(matches: Matches, ignored: np.ndarray, iou_threshold: float = 0.5):
    """`Curve` with a point at every distinct score (detections of equal score count together).

    Arguments as in `outcomes`.
    """
    result = outcomes(matches, ignored, iou_threshold)
    order = np.argsort(-matches.scores, kind="stable")
    scores, result = matches.scores[order], result[order]
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True)) if len(scores) else order
    return Curve(
        thresholds=scores[last],
        true_positives=np.cumsum(result == TRUE_POSITIVE)[last],
        counted=np.cumsum(result != IGNORED)[last],
        num_faces=int(np.sum(~np.asarray(ignored, bool))),
    )


def area_under_envelope(recall: np.ndarray, precision: np.ndarray):
    """Area under the least falling step function above the curve (VOC 2010 and later, WIDER FACE).

    Args:
        recall, precision: float [..., T], recall rising along the last axis.

    Returns:
        float [...] in 0..1: the sum of recall steps times the best precision at or after each.
    """
    envelope = np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1]
    steps = np.diff(recall, axis=-1, prepend=0.0)
    return np.sum(steps * envelope, axis=-1)


def average_precision(
    detections: Sequence[Detections],
    ground_truth: Sequence[tuple[np.ndarray, np.ndarray | None]],
    iou_threshold: float = 0.5,
) -> float:
    """All-points interpolated average precision of a detector on a set of images.

    Args:
        detections: of each image, in any order.
        ground_truth: one (boxes [M, 4] x1, y1, x2, y2, ignored bool [M] or None) an image.
        iou_threshold: least IoU of a true positive.

    Returns:
        0..1, or NaN when no face is left to find.
    """
    faces = [np.asarray(boxes, np.float64).reshape(-1, 4) for boxes, _ in ground_truth]
    ignored = [
        np.zeros(len(boxes), bool) if mask is None else np.asarray(mask, bool)
        for boxes, (_, mask) in zip(faces, ground_truth)
    ]
    ignored = np.concatenate([np.zeros(0, bool), *ignored])
    matches = match_detections(detections, faces)
    return precision_recall_curve(matches, ignored, iou_threshold).average_precision
