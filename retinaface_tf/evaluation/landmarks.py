"""How far the five points are off: normalised mean error, failure rate, cumulative error curve.

Source: RetinaFace (arXiv 1905.00641, section 4.3): the error of a face is the mean distance of its
points over sqrt(W * H) of its box; above 10 % it is a failure.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retinaface_tf.geometry.boxes import match_pairs, pairwise_iou

FAILURE_ERROR = 0.1
# Least IoU of a detection with the face whose points it is compared with. Truth boxes are often those
# of the points (brow to chin) and smaller than a detector's, so this is looser than in detection.
MATCH_IOU = 0.3


@dataclass(frozen=True)
class LandmarkErrors:
    """Errors of a set of faces.

    Attributes:
        errors: float64 [F] mean distance of a face's points over sqrt(W * H); NaN where the face was
            not found.
        per_point: float64 [F, 5] the same for each point, NaN where not found or not annotated.
    """

    errors: np.ndarray
    per_point: np.ndarray

    @property
    def num_faces(self) -> int:
        """All faces, found or not."""
        return len(self.errors)

    @property
    def num_found(self) -> int:
        """Faces with a detection."""
        return int(np.isfinite(self.errors).sum())

    @property
    def mean(self) -> float:
        """Normalised mean error of the faces found; NaN when none was."""
        return float(np.nanmean(self.errors)) if self.num_found else float("nan")

    @property
    def failure_rate(self) -> float:
        """Share of all faces with an error above 10 %; a face that was not found is a failure."""
        return float(np.mean(~(self.errors <= FAILURE_ERROR))) if self.num_faces else float("nan")

    @property
    def point_means(self) -> np.ndarray:
        """float64 [5] normalised mean error of each point, in the library's order."""
        counts = np.isfinite(self.per_point).sum(axis=0)
        return np.nansum(self.per_point, axis=0) / np.where(counts, counts, np.nan)

    def cumulative(self, limits: np.ndarray) -> np.ndarray:
        """float64 [T]: share of all faces with an error of at most each limit (the CED curve)."""
        found = np.sort(self.errors[np.isfinite(self.errors)])
        return np.searchsorted(found, limits, side="right") / max(self.num_faces, 1)

    def area(self, limit: float = FAILURE_ERROR) -> float:
        """Area under the CED curve up to a limit, over that limit: 1 is perfect."""
        found = self.errors[np.isfinite(self.errors)]
        return float(np.sum(np.maximum(limit - found, 0)) / limit / max(self.num_faces, 1))


def landmark_errors(predicted: np.ndarray, truth: np.ndarray, sizes: np.ndarray) -> LandmarkErrors:
    """Errors of predicted points.

    Args:
        predicted: [F, P, 2] pixels; NaN for a face that was not found.
        truth: [F, P, 2] pixels; NaN for a point that is not annotated.
        sizes: [F] pixels to divide by, sqrt(W * H) of the face's box.
    """
    distances = np.linalg.norm(np.asarray(predicted, float) - np.asarray(truth, float), axis=-1)
    distances /= np.asarray(sizes, float)[:, None]
    counts = np.isfinite(distances).sum(axis=1)
    errors = np.nansum(distances, axis=1) / np.where(counts, counts, np.nan)
    return LandmarkErrors(errors, distances)


def match_landmarks(
    truth_boxes: np.ndarray, boxes: np.ndarray, landmarks: np.ndarray
) -> np.ndarray:
    """The landmarks detected for each annotated face of an image.

    Args:
        truth_boxes: [M, 4] x1, y1, x2, y2.
        boxes: [N, 4] detections, best first.
        landmarks: [N, 5, 2].

    Returns:
        float64 [M, 5, 2]; NaN where no detection is left for a face. Pairs are one to one, the best
        overlap first.
    """
    result = np.full((len(truth_boxes), 5, 2), np.nan)
    truth_boxes, boxes = (np.asarray(b, float).reshape(-1, 4) for b in (truth_boxes, boxes))
    found, chosen = match_pairs(pairwise_iou(truth_boxes, boxes), MATCH_IOU)
    result[found] = landmarks[chosen]
    return result


def points_box(points: np.ndarray) -> np.ndarray:
    """[..., P, 2] points -> [..., 4] the box x1, y1, x2, y2 around those that are annotated."""
    return np.concatenate([np.nanmin(points, axis=-2), np.nanmax(points, axis=-2)], axis=-1)


def box_size(boxes: np.ndarray) -> np.ndarray:
    """[..., 4] corners -> [...] sqrt(W * H)."""
    sides = np.asarray(boxes, float)[..., 2:] - np.asarray(boxes, float)[..., :2]
    return np.sqrt(np.prod(sides, axis=-1))


def mirrored_share(points: np.ndarray) -> float:
    """Share of faces whose points run right to left, which tells turned faces from mirrored ones.

    Seen from the front, going from left eye to right eye the mouth lies on the right hand (y grows
    downwards), however the face is turned. Truth in the library's order gives a share near 0, truth
    that names the person's left first one near 1.

    Args:
        points: [F, 5, 2] in the order to be checked.
    """
    points = np.asarray(points, float)
    across = points[:, 1] - points[:, 0]
    down = points[:, 3:].mean(axis=1) - points[:, :2].mean(axis=1)
    turn = across[:, 0] * down[:, 1] - across[:, 1] * down[:, 0]
    turn = turn[np.isfinite(turn)]
    return float(np.mean(turn < 0)) if len(turn) else float("nan")


def join(parts: Sequence[LandmarkErrors]) -> LandmarkErrors:
    """Errors of several sets as one."""
    return LandmarkErrors(
        np.concatenate([np.zeros(0), *(p.errors for p in parts)]),
        np.concatenate([np.zeros((0, 5)), *(p.per_point for p in parts)]),
    )
