"""Faces followed through a whole video: their tracks, gaps filled, jitter smoothed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retinaface_tf.faces.faces import Faces
from retinaface_tf.faces.tracking import DEFAULT_TRACKING, Tracker, TrackingSettings

# A track goes on this many seconds before its first and behind its last detection where a face is to
# be hidden: people turn away before they leave.
_BEYOND = 0.25
# Detections that say how fast a face moves at the end of its track.
_LAST = 5


@dataclass(frozen=True, eq=False)
class FaceTrack:
    """One face through the frames of a video.

    Attributes:
        number: from 1, by the first frame.
        frames: int64 [K], positions in the sequence of frames, rising.
        boxes, scores, landmarks: as in `Faces`; a score is NaN in a frame that was filled.
    """

    number: int
    frames: NDArray[np.int64]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    landmarks: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.frames)

    def filled(self) -> FaceTrack:
        """With each frame between the first and the last one, on straight lines between detections."""
        frames = np.arange(self.frames[0], self.frames[-1] + 1)

        def between(values: np.ndarray) -> np.ndarray:
            flat = values.reshape(len(values), -1)
            columns = [np.interp(frames, self.frames, column) for column in flat.T]
            return np.stack(columns, axis=1).reshape(-1, *values.shape[1:]).astype(np.float32)

        scores = np.full(len(frames), np.nan, np.float32)
        scores[self.frames - frames[0]] = self.scores
        return replace(
            self,
            frames=frames,
            boxes=between(self.boxes),
            scores=scores,
            landmarks=between(self.landmarks),
        )

    def smoothed(self, frames: float = 1.5) -> FaceTrack:
        """Filled, boxes and points as means over time, by a Gaussian of that deviation: no lag.

        Near both ends the mean reaches as far forward as back, so that it is not pulled inward.
        """
        whole, reach = self.filled(), int(np.ceil(3 * frames))
        places = np.arange(len(whole))
        room = np.minimum(places, places[::-1])
        total = np.zeros(len(whole))
        boxes, points = np.zeros((len(whole), 4)), np.zeros((len(whole), 5, 2))
        for step in range(-reach, reach + 1):
            weight = np.exp(-0.5 * (step / frames) ** 2) * (abs(step) <= room)
            there = np.clip(places + step, 0, len(whole) - 1)
            total += weight
            boxes += weight[:, None] * whole.boxes[there]
            points += weight[:, None, None] * whole.landmarks[there]
        return replace(
            whole,
            boxes=(boxes / total[:, None]).astype(np.float32),
            landmarks=(points / total[:, None, None]).astype(np.float32),
        )

    def extended(self, frames: int, count: int) -> FaceTrack:
        """With so many frames more at each end, within `count` of the video: it moves on as it did."""
        whole, ends = self.filled(), []
        for edge, direction, room in (
            (0, -1, int(self.frames[0])),
            (-1, 1, count - 1 - int(self.frames[-1])),
        ):
            steps = np.arange(1, min(frames, room) + 1)
            few = min(_LAST, len(whole) - 1)
            inner = few if edge == 0 else -1 - few
            speed = (whole.boxes[edge] - whole.boxes[inner]) / max(few, 1)
            ends.append(
                FaceTrack(
                    self.number,
                    whole.frames[edge] + direction * steps,
                    (whole.boxes[edge] + steps[:, None] * speed).astype(np.float32),
                    np.full(len(steps), np.nan, np.float32),
                    np.repeat(whole.landmarks[edge][None], len(steps), axis=0),
                )
            )
        before, after = ends
        before = before.at(slice(None, None, -1))
        parts = (before, whole, after)
        return replace(
            self,
            frames=np.concatenate([part.frames for part in parts]),
            boxes=np.concatenate([part.boxes for part in parts]),
            scores=np.concatenate([part.scores for part in parts]),
            landmarks=np.concatenate([part.landmarks for part in parts]),
        )

    def at(self, key: Any) -> FaceTrack:
        """The frames that an index array, a mask or a slice selects."""
        return replace(
            self,
            frames=self.frames[key],
            boxes=self.boxes[key],
            scores=self.scores[key],
            landmarks=self.landmarks[key],
        )


def tracks_of(followed: Sequence[Faces], least: int = 2) -> list[FaceTrack]:
    """The tracks of successive frames' faces, of at least so many detections.

    Args:
        followed: of each frame, as `Tracker.follow` gives them.
        least: shorter tracks are left out.
    """
    seen: dict[int, list[tuple[int, int]]] = {}
    for position, faces in enumerate(followed):
        for index, number in enumerate(() if faces.tracks is None else faces.tracks.tolist()):
            if number:
                seen.setdefault(number, []).append((position, index))
    return [
        FaceTrack(
            number,
            np.array([position for position, _ in places]),
            *(
                np.stack([getattr(followed[position], name)[index] for position, index in places])
                for name in ("boxes", "scores", "landmarks")
            ),
        )
        for number, places in sorted(seen.items())
        if len(places) >= least
    ]


def link(
    found: Sequence[Faces], frame_rate: float, settings: TrackingSettings = DEFAULT_TRACKING
) -> list[FaceTrack]:
    """The tracks of successive frames' faces, whose scores go down to `settings.least`."""
    tracker = Tracker(frame_rate, settings)
    return tracks_of([tracker.follow(faces) for faces in found])


def boxes_to_hide(
    found: Sequence[Faces], frame_rate: float, threshold: float, settings: TrackingSettings
) -> list[NDArray[np.float32]]:
    """Where a face is, or may be, in each frame: nobody who is followed is missed in between.

    That is each detection above the threshold, and each track, followed forwards and, because a
    weak detection only continues a track, backwards, with its gaps and a quarter of a second more
    at both ends.

    Returns:
        float32 [N, 4] for each frame; they overlap.
    """
    count = len(found)
    boxes = [[faces.boxes[faces.scores >= threshold]] for faces in found]
    for frames, backwards in ((found, False), (found[::-1], True)):
        for track in link(frames, frame_rate, settings):
            track = track.extended(max(1, round(_BEYOND * frame_rate)), count)
            for position, box in zip(track.frames, track.boxes):
                boxes[count - 1 - position if backwards else position].append(box[None])
    return [np.concatenate(parts) for parts in boxes]
