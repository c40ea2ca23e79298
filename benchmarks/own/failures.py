"""Where a detector fails: photos with most missed faces, false detections of highest score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.peers.answers import Answers
from benchmarks.peers.pictures import PictureSet
from retinaface_tf.evaluation.average_precision import RIGHT, WRONG, match_detections, outcomes

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
    missed[matches.face[state == RIGHT]] = False
    return Judged(
        kept[matches.order], state == WRONG, matches.iou, missed, ~np.asarray(ignored, bool)
    )


def worst_failures(
    found: dict[str, Answers], sets: dict[str, PictureSet], count: int = 6
) -> list[str]:
    """Lines that name photos: most missed faces, then false detections of highest score.

    Detections that lie off a face (IoU 0.1 to 0.5) are told apart in the last line: there the box
    was wrong, not the finding.

    Args:
        found: set's key -> what was found in it at 640.
        sets: of the same keys.
        count: of lines of each kind.
    """
    misses, alarms, near = [], [], 0
    for key, answers in found.items():
        pictures = sets[key]
        for i, photo in enumerate(pictures.photos):
            seen = judge(answers.found[i], pictures.boxes[i], pictures.ignored[i])
            name = f"{pictures.title}, {photo.name}"
            if seen.missed.any():
                boxes = pictures.boxes[i][seen.missed]
                height = np.median(boxes[:, 3] - boxes[:, 1])
                line = (
                    f"{name}: {len(boxes)} of {seen.valid.sum()} faces missed, half of these below "
                    f"{height:.0f} of the photo's pixels"
                )
                misses.append((len(boxes), line))
            for place in np.flatnonzero(seen.wrong):
                if seen.overlap[place] > NEAR:
                    near += 1
                    continue
                box, score = (values[seen.kept[place]] for values in answers.found[i][:2])
                (x, y), (width, height) = box[:2], box[2:] - box[:2]
                where = f"{width:.0f}x{height:.0f} pixels at ({x:.0f}, {y:.0f})"
                alarms.append((score, f"{name}: false with {score:.2f}, {where}"))
    lines = []
    for kind in (misses, alarms):
        kind.sort(key=lambda pair: -pair[0])
        lines += [line for _, line in kind[:count]]
    lines.append(
        f"{near} of {near + len(alarms)} false detections lie on a face, with an IoU from {NEAR} to "
        "0.5 or as a second one"
    )
    return lines
