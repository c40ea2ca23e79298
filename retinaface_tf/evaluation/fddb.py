"""FDDB's evaluation: boxes against ellipses, discrete and continuous scores, ROC.

Source: Jain and Learned-Miller, "FDDB: A Benchmark for Face Detection in Unconstrained Settings"
(UM-CS-2010-009) and its public evaluation code. At every threshold the detections and annotations
of an image are paired one to one so that the sum of their overlaps is greatest. The continuous score
of a pair is its overlap, the discrete one is 1 when that is above 0.5. Detections without a discrete
match are the false positives of both curves.

The public code counts drawn pixels; here overlaps are computed from the exact shapes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retinaface_tf.errors import DataError
from retinaface_tf.evaluation.detections import NOTHING, ImageDetections, image_key
from retinaface_tf.util.text_lines import TextLines

QUADRATURE_POINTS = 512


@dataclass(frozen=True)
class FDDBCurve:
    """ROC of both scores, from the highest threshold to the lowest.

    Attributes:
        thresholds: float64 [T] every distinct score, falling.
        false_positives: int64 [T] of all images together.
        discrete: float64 [T] sum of discrete scores over the number of faces, 0..1.
        continuous: float64 [T] sum of continuous scores over the number of faces, 0..1.
        num_faces, num_images: what was annotated.
    """

    thresholds: np.ndarray
    false_positives: np.ndarray
    discrete: np.ndarray
    continuous: np.ndarray
    num_faces: int
    num_images: int

    def at(self, false_positives: float) -> tuple[float, float]:
        """(discrete, continuous) rate at the lowest threshold with at most `false_positives`."""
        inside = np.flatnonzero(self.false_positives <= false_positives)
        if not len(inside):
            return 0.0, 0.0
        return float(self.discrete[inside[-1]]), float(self.continuous[inside[-1]])


def read_image_list(file: Path | str, known: Iterable[str]) -> list[str]:
    """Keys of the images a file names; lines that name none (numbers, boxes) are passed over.

    Raises:
        DataError: the file cannot be read.
    """
    known = set(known)
    lines, keys = TextLines(file), {}
    while lines:
        keys[image_key(lines.take("an image"), known)] = None
    return [key for key in keys if key is not None]


def box_ellipse_iou(boxes: np.ndarray, ellipses: np.ndarray) -> np.ndarray:
    """Intersection over union of every box with every ellipse.

    Args:
        boxes: [N, 4] x1, y1, x2, y2.
        ellipses: [M, 5] as `data.readers.fddb.read_ellipses` gives them.

    Returns:
        float64 [N, M], exact to about 1e-5.
    """
    boxes, ellipses = np.asarray(boxes, np.float64), np.asarray(ellipses, np.float64)
    if not len(boxes) or not len(ellipses):
        return np.zeros((len(boxes), len(ellipses)))
    major, minor, angle, cx, cy = ellipses.T
    # Covariance form: the ellipse is sheared along y from an axis-aligned one of half-width rx, so at
    # x = cx + rx sin(t) it spans rise * sin(t) -+ drop * cos(t) around cy.
    xx = (major * np.cos(angle)) ** 2 + (minor * np.sin(angle)) ** 2
    xy = (major**2 - minor**2) * np.sin(angle) * np.cos(angle)
    rx = np.sqrt(xx)
    rise, drop = xy / rx, major * minor / rx
    left = np.arcsin(np.clip((boxes[:, None, 0] - cx) / rx, -1, 1))
    right = np.arcsin(np.clip((boxes[:, None, 2] - cx) / rx, -1, 1))
    intersection = np.zeros(left.shape)
    midpoints = (np.arange(QUADRATURE_POINTS) + 0.5) / QUADRATURE_POINTS
    for n, m in zip(*np.nonzero(right > left)):
        span = right[n, m] - left[n, m]
        t = left[n, m] + span * midpoints
        middle, half = cy[m] + rise[m] * np.sin(t), drop[m] * np.cos(t)
        low = np.maximum(middle - half, boxes[n, 1])
        high = np.minimum(middle + half, boxes[n, 3])
        height = np.maximum(high - low, 0)
        intersection[n, m] = np.mean(height * rx[m] * np.cos(t)) * span
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    union = area[:, None] + np.pi * major * minor - intersection
    return intersection / union


def evaluate_fddb(
    ellipses: Mapping[str, np.ndarray],
    detections: Mapping[str, ImageDetections],
    images: Sequence[str] | None = None,
) -> FDDBCurve:
    """ROC of a detector.

    Args:
        ellipses: of `data.readers.fddb.read_ellipses`.
        detections: image key -> detections, best first; an image that is missing has none.
        images: keys to evaluate; None takes all annotated.

    Raises:
        DataError: detections for an image without annotation, or an ellipse or box that is none.
    """
    images = list(ellipses) if images is None else list(images)
    unknown = set(detections) - set(ellipses)
    if unknown:
        raise DataError(f"Detections for {min(unknown)!r}, which FDDB's lists do not name.")
    # Each detection changes its image's sums when the threshold falls to its score.
    scores, discrete, continuous = [], [], []
    for key in images:
        found = detections.get(key, NOTHING)
        with np.errstate(all="ignore"):
            overlaps = box_ellipse_iou(found.boxes, ellipses[key])
        good = (ellipses[key][:, :2] > 0).all() and np.isfinite(ellipses[key]).all()
        if not good or not np.isfinite(overlaps).all():
            raise DataError(
                f"An ellipse or a detection of {key!r} is not a shape: a radius is not above 0, or a "
                "number is too large."
            )
        sums = _sums_by_rank(overlaps)
        scores.append(found.scores)
        discrete.append(np.diff(sums[:, 0], prepend=0))
        continuous.append(np.diff(sums[:, 1], prepend=0))
    scores, discrete, continuous = (
        np.concatenate([np.zeros(0), *parts]) for parts in (scores, discrete, continuous)
    )
    order = np.argsort(-scores, kind="stable")
    scores = scores[order]
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True)) if len(scores) else order
    right = np.cumsum(discrete[order])[last]
    faces = sum(len(ellipses[key]) for key in images)
    return FDDBCurve(
        thresholds=scores[last],
        false_positives=np.rint(last + 1 - right).astype(np.int64),
        discrete=right / max(faces, 1),
        continuous=np.cumsum(continuous[order])[last] / max(faces, 1),
        num_faces=faces,
        num_images=len(images),
    )


def _sums_by_rank(overlaps: np.ndarray) -> np.ndarray:
    """float64 [N, 2]: discrete and continuous sums of the best pairing of the first n + 1 boxes."""
    from scipy.optimize import linear_sum_assignment

    sums = np.zeros((len(overlaps), 2))
    for n in range(len(overlaps)):
        if not overlaps[n].any():
            sums[n] = sums[n - 1] if n else 0.0
            continue
        rows, columns = linear_sum_assignment(overlaps[: n + 1], maximize=True)
        pairs = overlaps[rows, columns]
        sums[n] = np.sum(pairs > 0.5), pairs.sum()
    return sums
