"""Which frames of a video a command takes, and how they are searched."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from retinaface_tf.errors import ConfigError, ImageError, RetinaFaceError, named

if TYPE_CHECKING:
    from retinaface_tf.faces.faces import Faces
    from retinaface_tf.images.video_frames import Cut, Frame
    from retinaface_tf.inference.detector import Detector

_TIME = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?)")


@dataclass(frozen=True, kw_only=True)
class CutOptions:
    """Which frames of a video are taken."""

    begin: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="TIME", help="Where to start in a video: 90, 1:30 or 0:01:30.5."
        ),
    ] = None
    end: Annotated[
        str | None,
        typer.Option("--to", metavar="TIME", help="Where to stop in a video, as --from."),
    ] = None
    each: Annotated[
        int,
        typer.Option("--every", metavar="N", min=1, help="Take only every Nth frame of a video."),
    ] = 1

    def __post_init__(self):
        _ = self.cut  # refuses what cannot be

    @property
    def cut(self) -> Cut:
        """The frames that are wanted.

        Raises:
            ConfigError: there are none.
        """
        from retinaface_tf.images.video_frames import Cut

        end = None if self.end is None else _seconds("--to", self.end)
        return Cut(_seconds("--from", self.begin or "0"), end, self.each)


@dataclass(frozen=True, kw_only=True)
class VideoOptions(CutOptions):
    """Also whether the faces of a video are followed."""

    track: Annotated[
        bool,
        typer.Option(
            "--track", help="Follow the faces of a video: the same face, the same number."
        ),
    ] = False
    tracks: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write a JSON line for each track: gaps filled, points smoothed."
        ),
    ] = None
    best: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Write the best crop of each track: sharp, frontal, large."
        ),
    ] = None

    def __post_init__(self):
        super().__post_init__()
        if str(self.tracks) == "-":
            raise ConfigError(
                "--tracks - would be a file of that name; give a file, or /dev/stdout."
            )

    @property
    def tracking(self) -> bool:
        """Whether faces are followed."""
        return self.track or self.tracks is not None or self.best is not None


def _seconds(option: str, text: str) -> float:
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"{option} {text} is not a time; give seconds, or 1:30, or 0:01:30.")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return 3600 * hours + 60 * minutes + seconds


def search_frames(
    detector: Detector, frames: Iterable[Frame], batch_size: int, name: str, **settings
) -> Iterator[tuple[Frame, Faces]]:
    """Frames and their faces; a few are read and prepared ahead of the network.

    Args:
        detector, frames: what searches what.
        batch_size: frames given to the network at once.
        name: what messages call the video.
        settings: see `Detector.stream`.

    Raises:
        RetinaFaceError: after all frames before it: a frame cannot be searched, or the video ends.
    """
    if detector.settings.zoom != "off":  # what one frame shows says where to look in the next
        detect = detector.for_video(**settings)
        for frame in frames:
            try:
                faces = detect(frame.image)
            except ImageError as error:
                raise named(error, name) from None
            yield frame, faces
        return
    waiting: deque[Frame] = deque()
    failure: list[RetinaFaceError] = []

    def images() -> Iterator[np.ndarray]:
        try:
            for frame in frames:
                waiting.append(frame)
                yield frame.image
        except RetinaFaceError as error:  # whose frames are still in the network
            failure.append(error)

    for answer in detector.stream(images(), batch_size=batch_size, **settings):
        if isinstance(answer, ImageError):
            raise named(answer, name)
        yield waiting.popleft(), answer
    if failure:
        raise failure[0]
