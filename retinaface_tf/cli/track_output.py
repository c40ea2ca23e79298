"""What `detect` makes of the tracks of a video: numbers, a line each, the best crop of each."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from retinaface_tf.cli.video_options import VideoOptions
from retinaface_tf.errors import RetinaFaceError
from retinaface_tf.faces.faces import Faces
from retinaface_tf.faces.json_lines import face_entry
from retinaface_tf.faces.quality import face_quality
from retinaface_tf.faces.tracking import Tracker, TrackingSettings
from retinaface_tf.faces.tracks import FaceTrack, tracks_of
from retinaface_tf.images.save import save_image
from retinaface_tf.images.video_frames import Frame
from retinaface_tf.util.files import write_whole


class _Best(NamedTuple):
    """The best look at a face so far."""

    figure: float
    frame: int
    crop: np.ndarray


class TrackOutput:
    """Follows the faces of one video after the other, and writes what became of them.

    Args:
        options: what is wanted.
        threshold: least score of a face that need not be followed.
        cut: (pixels, faces) -> crops, for the best of each track.
    """

    def __init__(
        self,
        options: VideoOptions,
        threshold: float,
        cut: Callable[[np.ndarray, Faces], list[np.ndarray]],
    ):
        self._options, self._cut = options, cut
        self.settings = TrackingSettings(
            sure=threshold, least=min(0.1, threshold / 2), begin=min(threshold + 0.1, 0.95)
        )
        self._lines: list[str] = []

    def begin(self, frame_rate: float) -> None:
        """A video of so many frames a second."""
        self._tracker = Tracker(frame_rate, self.settings)
        self._frames: list[tuple[int, float]] = []
        self._followed: list[Faces] = []
        self._best: dict[int, _Best] = {}

    def follow(self, frame: Frame, faces: Faces) -> Faces:
        """The faces of the next frame with their tracks."""
        faces = self._tracker.follow(faces)
        self._frames.append((frame.index, frame.time))
        self._followed.append(faces)
        if self._options.best and len(faces):
            figures = face_quality(frame.image, faces).figure
            for index, (number, figure) in enumerate(zip(faces.tracks, figures)):
                if number and (number not in self._best or figure > self._best[number].figure):
                    (crop,) = self._cut(frame.image, faces[[index]])
                    self._best[int(number)] = _Best(float(figure), frame.index, crop)
        return faces

    def end(self, name: str, mark: str, place: Callable[[int], Path]) -> int:
        """Writes the crops and keeps the lines of a video; the number of its tracks.

        Args:
            name: of the video in lines.
            mark: of what is made of it.
            place: the path of the crop of a track.
        """
        tracks = tracks_of(self._followed)
        for track in tracks:
            line = self._line(name, track)
            if best := self._best.get(track.number):
                path = place(track.number)
                save_image(path, best.crop, mark=mark)
                line["best"] = {"frame": best.frame, "quality": round(best.figure, 4)}
                line["best"]["crop"] = str(path)
            self._lines.append(json.dumps(line, ensure_ascii=False))
        return len(tracks)

    def _line(self, name: str, track: FaceTrack) -> dict:
        smooth = track.smoothed()
        frames = []
        for position, *face in zip(smooth.frames, smooth.boxes, smooth.scores, smooth.landmarks):
            index, time = self._frames[position]
            frames.append({"frame": index, "time": round(time, 3), **face_entry(*face)})
        return {
            "image": name,
            "track": track.number,
            "seen": len(track),
            "begin": frames[0]["time"],
            "end": frames[-1]["time"],
            "frames": frames,
        }

    def write(self) -> None:
        """The file of all tracks, whole."""
        if self._options.tracks:
            text = "".join(f"{line}\n" for line in self._lines)
            write_whole(self._options.tracks, text, error=RetinaFaceError)
