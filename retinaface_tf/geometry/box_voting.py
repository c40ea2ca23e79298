"""Box voting: detections that overlap become one (Gidaris and Komodakis 2015)."""

from collections.abc import Iterator
from itertools import islice

import numpy as np

from retinaface_tf.geometry.boxes import iou


def overlapping_groups(
    boxes: np.ndarray, scores: np.ndarray, iou_threshold: float
) -> Iterator[np.ndarray]:
    """The best detection left and all that overlap it, again and again until none is left.

    Args:
        boxes: float [N, 4] corners.
        scores: float [N]; equal scores keep their input order.
        iou_threshold: least IoU with the best detection of a group.

    Yields:
        int64 [M] indices of a group, best score first.
    """
    left = np.argsort(-scores, kind="stable")
    while len(left):
        joins = iou(boxes[left[0]], boxes[left]) >= iou_threshold
        joins[0] = True  # also where its box is empty
        yield left[joins]
        left = left[~joins]


def vote(
    boxes: np.ndarray,
    scores: np.ndarray,
    landmarks: np.ndarray,
    rotation: np.ndarray | None = None,
    *,
    iou_threshold: float,
    max_outputs: int | None = None,
    source: np.ndarray | None = None,
    sources: int = 1,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Joins detections of many passes by box voting (arXiv 1905.00641, section 4.3).

    The best detection left and all that overlap it become one: box and points are their means with
    the scores as weights, the score is the best one's.

    Args:
        boxes: float [N, 4] corners.
        scores: float [N], at least 0.
        landmarks: float [N, P, 2].
        rotation: int [N], the turn at which each was found. Points are averaged only over those
            found at the turn of the best one: a face found upside down has its points named the
            other way round. None when all are alike.
        iou_threshold: least IoU with the best one for a vote.
        max_outputs: stop after this many; None for all.
        source: int [N], the pass that found each, out of `sources`: the score is then the mean of
            the best ones of all passes, 0 of one that found nothing there. None for the best score.

    Returns:
        boxes float64 [K, 4], scores float64 [K] (falling, without `source`), landmarks float64 [K, P, 2].
    """
    boxes, scores, landmarks = (np.asarray(v, np.float64) for v in (boxes, scores, landmarks))
    rotation = np.zeros(len(scores)) if rotation is None else np.asarray(rotation)
    weights = np.maximum(scores, np.finfo(np.float32).tiny)  # where all are 0, boxes count alike
    joined = []
    for group in islice(overlapping_groups(boxes, scores, iou_threshold), max_outputs):
        alike = group[rotation[group] == rotation[group[0]]]
        joined.append(
            (
                np.average(boxes[group], axis=0, weights=weights[group]),
                scores[group[0]] if source is None else _summed(scores, source, group) / sources,
                np.average(landmarks[alike], axis=0, weights=weights[alike]),
            )
        )
    if not joined:
        return boxes[:0], scores[:0], landmarks[:0]
    return tuple(np.stack(column) for column in zip(*joined))


def _summed(scores: np.ndarray, source: np.ndarray, group: np.ndarray) -> float:
    """The sum of the best score of each source in a group, best score first."""
    _, first = np.unique(source[group], return_index=True)
    return float(scores[group[first]].sum())
