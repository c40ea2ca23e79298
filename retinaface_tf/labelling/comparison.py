"""How well labels that a teacher made agree with real ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retinaface_tf.data.readers.annotation import AnnotatedImage
from retinaface_tf.errors import DataError
from retinaface_tf.geometry.boxes import match_pairs, pairwise_iou

# Least overlap of a label and its face, and of an ignored label, as in training.
_IOU, _IGNORED_IOU = 0.5, 0.3
# Heights of real faces in pixels of the photo, from and to.
HEIGHTS = ((0, 12), (12, 24), (24, 48), (48, np.inf))


@dataclass(frozen=True)
class LabelAgreement:
    """Counts over all photos both have; real faces that are themselves ignored are in none of them.

    Attributes:
        heights: of `HEIGHTS`, the rows of the next three.
        found: int [H], real faces with a label.
        ignored: int [H], real faces without a label, but with a face to be ignored on them.
        missed: int [H], real faces that training would call background.
        true_positives, false_positives: labels on a real face, and labels on none.
    """

    photos: int
    heights: tuple[tuple[float, float], ...]
    found: np.ndarray
    ignored: np.ndarray
    missed: np.ndarray
    true_positives: int
    false_positives: int

    @property
    def precision(self) -> float:
        """Share of the labels that are on a real face; NaN without labels."""
        total = self.true_positives + self.false_positives
        return self.true_positives / total if total else float("nan")

    def table(self) -> str:
        """As text to read."""
        rows = [f"{'height':>9} {'faces':>6} {'found':>7} {'ignored':>8} {'missed':>7}"]
        columns = np.stack([self.found, self.ignored, self.missed], axis=1)
        names = [f"{low:g}-{high:g}" for low, high in self.heights]
        for name, counts in [*zip(names, columns), ("all", columns.sum(axis=0))]:
            shares = [f"{c / max(counts.sum(), 1):.1%}" for c in counts]
            rows.append(f"{name:>9} {counts.sum():>6} {shares[0]:>7} {shares[1]:>8} {shares[2]:>7}")
        rows.append(
            f"{self.true_positives + self.false_positives} labels on {self.photos} photos, "
            f"precision {self.precision:.1%}"
        )
        return "\n".join(rows)


def compare_labels(
    labels: Sequence[AnnotatedImage], truth: Sequence[AnnotatedImage]
) -> LabelAgreement:
    """Labels beside the real ones of the same photos.

    Each real face takes the free label that overlaps it most, the larger overlaps first. A label on
    a real face that is marked ignored does not count.

    Args:
        labels: to be judged; their ignored faces are neither learnt nor background.
        truth: real ones; photos are the same by their files.

    Raises:
        DataError: the two have no photo in common.
    """
    real = {image.path.resolve(): image for image in truth}
    pairs = [(image, real.get(image.path.resolve())) for image in labels]
    pairs = [(image, other) for image, other in pairs if other is not None]
    if not pairs:
        raise DataError(
            "None of the labelled photos is in the file of real labels; check the folder of photos."
        )
    counts = np.zeros((3, len(HEIGHTS)), int)
    true = false = 0
    for image, other in pairs:
        learnt = image.boxes[~image.ignored]
        faces, taken = match_pairs(pairwise_iou(other.boxes, learnt), _IOU)
        label_of = np.full(len(other.boxes), -1)
        label_of[faces] = taken
        judged = ~other.ignored
        true += int((label_of[judged] >= 0).sum())
        free = np.setdiff1d(np.arange(len(learnt)), taken)
        excused = _any_above(pairwise_iou(learnt[free], other.boxes[other.ignored]), _IGNORED_IOU)
        false += int((~excused).sum())
        open_ = _any_above(pairwise_iou(other.boxes, image.boxes[image.ignored]), _IGNORED_IOU)
        state = np.where(label_of >= 0, 0, np.where(open_, 1, 2))
        height = other.boxes[:, 3] - other.boxes[:, 1]
        for row, (low, high) in enumerate(HEIGHTS):
            chosen = judged & (height >= low) & (height < high)
            counts[:, row] += np.bincount(state[chosen], minlength=3)
    return LabelAgreement(len(pairs), HEIGHTS, *counts, true, false)


def _any_above(overlap: np.ndarray, least: float) -> np.ndarray:
    return (overlap >= least).any(axis=1)
