"""Where a detector fails: photos with most missed faces, false detections of highest score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.peers.answers import Answers
from benchmarks.peers.pictures import PictureSet
from retinaface_tf.evaluation.average_precision import RIGHT, WRONG, match_detections, outcomes

# From this score on a detection is a face.
THRESHOLD = 0.5


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
    missed[matches.face[state == RIGHT]] = False
    return Judged(
        kept[matches.order], state == WRONG, matches.iou, missed, ~np.asarray(ignored, bool)
    )


def worst_failures(
    found: dict[str, Answers], sets: dict[str, PictureSet], count: int = 6
) -> list[str]:
    """Lines that name photos: most missed faces, then false detections of highest score.

    Args:
        found: set's key -> what was found in it at 640.
        sets: of the same keys.
        count: of lines of each kind.
    """
    misses, alarms = [], []
    for key, answers in found.items():
        pictures = sets[key]
        for i, photo in enumerate(pictures.photos):
            boxes = pictures.boxes[i]
            seen = judge(answers.found[i], boxes, pictures.ignored[i])
            name = f"{pictures.title}, {photo.name}"
            if seen.missed.any():
                height = np.median((boxes[:, 3] - boxes[:, 1])[seen.missed])
                misses.append(
                    (
                        int(seen.missed.sum()),
                        f"{name}: {seen.missed.sum()} of {seen.valid.sum()} faces missed, "
                        f"half of these below {height:.0f} of the photo's pixels",
                    )
                )
            for place in np.flatnonzero(seen.wrong):
                score = answers.found[i][1][seen.kept[place]]
                x1, y1, x2, y2 = answers.found[i][0][seen.kept[place]]
                overlap = seen.overlap[place]
                why = f"off a face, IoU {overlap:.2f}" if overlap > 0.1 else "no annotated face"
                where = f"{x2 - x1:.0f}x{y2 - y1:.0f} pixels at ({x1:.0f}, {y1:.0f})"
                alarms.append((score, f"{name}: false with {score:.2f}, {where}, {why}"))
    lines = []
    for kind in (misses, alarms):
        kind.sort(key=lambda pair: -pair[0])
        lines += [line for _, line in kind[:count]]
    return lines
