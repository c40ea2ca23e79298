"""Where a detector fails: photos with most missed faces, false detections of highest score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.peers.answers import Answers
from benchmarks.peers.images import ImageSet
from retinaface_tf.evaluation.average_precision import (
    FALSE_POSITIVE,
    TRUE_POSITIVE,
    best_overlap,
    match_detections,
    outcomes,
)

# From this score on a detection is a face.
THRESHOLD = 0.5
# A wrong detection with more IoU than this is on a face, but badly placed.
NEAR = 0.1


@dataclass(frozen=True, eq=False)
class Judged:
    """The detections of a photo from the threshold on, and its faces.

    Attributes:
        kept: int [K] the detections' places in the answer, best first.
        wrong: bool [K] which of them are on no annotated face.
        overlap: float [K] their largest IoU with a face.
        missed: bool [M] which valid faces have no detection.
        valid: bool [M] which faces count.
    """

    kept: np.ndarray
    wrong: np.ndarray
    overlap: np.ndarray
    missed: np.ndarray
    valid: np.ndarray


def judge(found: tuple, boxes: np.ndarray, ignored: np.ndarray) -> Judged:
    """A photo's detections against its faces, at IoU 0.5."""
    kept = np.flatnonzero(found[1] >= THRESHOLD)
    matches = match_detections([(found[0][kept], found[1][kept])], [boxes])
    state = outcomes(matches, ignored)
    missed = ~np.asarray(ignored, bool)
    missed[matches.face[state == TRUE_POSITIVE]] = False
    return Judged(
        kept[matches.order],
        state == FALSE_POSITIVE,
        matches.iou,
        missed,
        ~np.asarray(ignored, bool),
    )


def worst_failures(
    found: dict[str, Answers],
    sets: dict[str, ImageSet],
    rival: dict[str, Answers] | None = None,
    count: int = 6,
) -> list[str]:
    """Lines that name photos: most missed faces, then false detections of highest score.

    The last line counts the false detections without a line of their own: those beside a face (IoU 0.1
    to 0.5), where only the box is wrong, and those that the rival makes too, mostly faces without a label.

    Args:
        found: set's key -> detections in it at 640.
        sets: of the same keys.
        rival: another detector's.
        count: of lines of each kind.
    """
    misses, alarms, near, shared = [], [], 0, 0
    for key, answers in found.items():
        images = sets[key]
        for i, photo in enumerate(images.photos):
            boxes, scores = answers.found[i][:2]
            seen = judge(answers.found[i], images.boxes[i], images.ignored[i])
            name = f"{images.title}, {photo.name}"
            if seen.missed.any():
                faces = images.boxes[i][seen.missed]
                height = np.median(faces[:, 3] - faces[:, 1])
                line = (
                    f"{name}: {len(faces)} of {seen.valid.sum()} faces missed, half of these below "
                    f"{height:.0f} of the photo's pixels"
                )
                misses.append((len(faces), line))
            close = seen.wrong & (seen.overlap > NEAR)
            both = seen.wrong & ~close & _also_in(rival, key, i, boxes[seen.kept])
            near, shared = near + close.sum(), shared + both.sum()
            for place in seen.kept[seen.wrong & ~close & ~both]:
                (x, y), (width, height) = boxes[place, :2], boxes[place, 2:] - boxes[place, :2]
                where = f"{width:.0f}x{height:.0f} pixels at ({x:.0f}, {y:.0f})"
                alarms.append((scores[place], f"{name}: false with {scores[place]:.2f}, {where}"))
    lines = []
    for kind in (misses, alarms):
        kind.sort(key=lambda pair: -pair[0])
        lines += [line for _, line in kind[:count]]
    words = f"{near + shared + len(alarms)} false detections in all: {near} badly placed on a face"
    lines.append(words + f", {shared} that YuNet makes too, {len(alarms)} others" * bool(rival))
    return lines


def _also_in(rival: dict[str, Answers] | None, key: str, i: int, boxes: np.ndarray) -> np.ndarray:
    """bool [N]: boxes that the rival found too."""
    if rival is None:
        return np.zeros(len(boxes), bool)
    others, scores = rival[key].found[i][:2]
    return best_overlap(boxes, others[scores >= THRESHOLD])[1] >= 0.5
