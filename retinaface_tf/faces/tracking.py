"""Which detections of successive frames are the same face: ByteTrack.

Source: Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box" (ECCV 2022,
arXiv 2110.06864) and its public code. Detections with a low score begin no track, but they continue
one. A track is predicted by a Kalman filter of constant velocity (Wojke et al. 2017, "DeepSORT") over
middle, aspect and height of its box, whose noise is independent for these four: they are four
filters of two states.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retinaface_tf.faces.faces import Faces
from retinaface_tf.geometry.assignment import assign
from retinaface_tf.geometry.boxes import pairwise_iou

# Deviations as shares of the height of a box; the aspect has its own.
_POSITION, _VELOCITY = 1 / 20, 1 / 160
_RELATIVE = np.array([1.0, 1.0, 0.0, 1.0])


@dataclass(frozen=True, kw_only=True)
class TrackingSettings:
    """What begins, continues and ends a track.

    Attributes:
        sure: detections above this score are paired first.
        least: those above this score continue the tracks that are left.
        begin: least score of the first detection of a track.
        memory: seconds after which a face that is seen again is another track.
        limits: greatest distance, 1 - IoU x score, of a pair; 1 - IoU for detections that are not
            sure; and 1 - IoU x score for tracks with one detection.
    """

    sure: float = 0.5
    least: float = 0.1
    begin: float = 0.6
    memory: float = 1.0
    limits: tuple[float, float, float] = (0.8, 0.5, 0.7)


DEFAULT_TRACKING = TrackingSettings()


class Tracker:
    """Gives the detections of one frame after the other the numbers of their tracks.

    Args:
        frame_rate: frames a second that it is given.
        settings: see there.
    """

    def __init__(self, frame_rate: float, settings: TrackingSettings = DEFAULT_TRACKING):
        self.settings = settings
        self._memory = int(frame_rate * settings.memory)
        self._frame = self._count = 0
        self._tracked: list[_Track] = []
        self._lost: list[_Track] = []

    def update(self, boxes: NDArray[np.float32], scores: NDArray[np.float32]) -> NDArray[np.int64]:
        """The next frame.

        Args:
            boxes: [N, 4] x1, y1, x2, y2.
            scores: [N].

        Returns:
            int64 [N], from 1; 0 for a detection that is in no track. The number of a track's first
            detection is a promise only: it may stay its only one.
        """
        self._frame += 1
        boxes, scores = np.asarray(boxes, float), np.asarray(scores, float)
        numbers = np.zeros(len(boxes), np.int64)
        sure, unsure, young = self.settings.limits
        high = np.flatnonzero(scores > self.settings.sure)
        low = np.flatnonzero((scores > self.settings.least) & (scores <= self.settings.sure))
        known = [track for track in self._tracked if track.confirmed] + self._lost
        for track in known:
            track.predict()

        def pair(
            tracks: list[_Track],
            detections: NDArray[np.intp],
            limit: float,
            weights: NDArray[np.floating[Any]] | float,
        ) -> tuple[list[_Track], NDArray[np.intp]]:
            """Continues tracks; those left, and the detections left."""
            overlaps = pairwise_iou(
                np.array([track.box for track in tracks]).reshape(-1, 4), boxes[detections]
            )
            pairs = assign(1 - overlaps * weights, limit)
            for row, column in pairs:
                numbers[detections[column]] = tracks[row].number
                tracks[row].correct(boxes[detections[column]], self._frame)
            left = set(range(len(tracks))) - set(pairs[:, 0].tolist())
            return [tracks[k] for k in sorted(left)], np.delete(detections, pairs[:, 1])

        left, high = pair(known, high, sure, scores[high])
        left, _ = pair([track for track in left if not track.lost], low, unsure, 1.0)
        for track in left:
            track.lost = True
        first = [track for track in self._tracked if not track.confirmed]
        gone, high = pair(first, high, young, scores[high])
        begun = []
        for index in high[scores[high] >= self.settings.begin]:
            self._count += 1
            begun.append(_Track(boxes[index], self._count, self._frame))
            numbers[index] = self._count
        everyone = [t for t in (*self._tracked, *self._lost) if t not in gone] + begun
        self._tracked = [track for track in everyone if not track.lost]
        self._lost = [
            track for track in everyone if track.lost and self._frame - track.last <= self._memory
        ]
        self._drop_twins()
        return numbers

    def follow(self, faces: Faces) -> Faces:
        """The next frame's faces with their tracks; weak ones that continue none are left out.

        Args:
            faces: with scores down to `settings.least`.
        """
        numbers = self.update(faces.boxes, faces.scores)
        followed = replace(faces, tracks=numbers)
        kept: NDArray[np.bool_] = (numbers > 0) | (faces.scores > self.settings.sure)
        return followed[kept]

    def _drop_twins(self) -> None:
        """Of a track and a lost one in the same place only the longer one stays."""
        overlaps = pairwise_iou(
            *(
                np.array([track.box for track in tracks]).reshape(-1, 4)
                for tracks in (self._tracked, self._lost)
            )
        )
        for row, column in np.argwhere(overlaps > 0.85):
            one, other = self._tracked[row], self._lost[column]
            shorter = other if one.last - one.first > other.last - other.first else one
            shorter.dropped = True
        self._tracked = [track for track in self._tracked if not track.dropped]
        self._lost = [track for track in self._lost if not track.dropped]


class _Track:
    """A face that is followed: the state of its filter, and when it was seen."""

    def __init__(self, box: np.ndarray, number: int, frame: int):
        self.number, self.first, self.last = number, frame, frame
        self.confirmed, self.lost, self.dropped = frame == 1, False, False
        self.place, self.speed = _measured(box), np.zeros(4)
        # Variance of place, covariance, variance of speed.
        self.spread = (
            self._noise(2 * _POSITION, 1e-2),
            np.zeros(4),
            self._noise(10 * _VELOCITY, 1e-5),
        )

    def _noise(self, share: float, of_aspect: float) -> NDArray[np.float64]:
        return np.square(np.where(_RELATIVE, share * self.place[3], of_aspect))

    @property
    def box(self) -> np.ndarray:
        _, _, aspect, height = self.place
        half = np.array([aspect * height, height]) / 2
        return np.concatenate([self.place[:2] - half, self.place[:2] + half])

    def predict(self) -> None:
        """One frame later."""
        if self.lost:
            self.speed[3] = 0
        place, both, speed = self.spread
        self.spread = (
            place + 2 * both + speed + self._noise(_POSITION, 1e-2),
            both + speed,
            speed + self._noise(_VELOCITY, 1e-5),
        )
        self.place = self.place + self.speed

    def correct(self, box: np.ndarray, frame: int) -> None:
        """It is seen at a box."""
        place, both, speed = self.spread
        total = place + self._noise(_POSITION, 1e-1)
        wrong = _measured(box) - self.place
        self.place, self.speed = (
            self.place + place / total * wrong,
            self.speed + both / total * wrong,
        )
        self.spread = (
            place - place * place / total,
            both - both * place / total,
            speed - both * both / total,
        )
        self.last, self.confirmed, self.lost = frame, True, False


def _measured(box: np.ndarray) -> np.ndarray:
    """Middle x, y, width / height, height."""
    width, height = np.maximum(box[2:] - box[:2], 1e-3)
    return np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2, width / height, height])
