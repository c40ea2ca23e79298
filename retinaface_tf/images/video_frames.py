"""What every reader and writer of video has in common: frames, a cut, and what is said of damage."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from retinaface_tf.errors import ConfigError, ImageError
from retinaface_tf.images.save import end_mark
from retinaface_tf.util.files import whole_file

USUAL_FRAME_RATE = 25.0


class Frame(NamedTuple):
    """One frame of a video.

    Attributes:
        index: its number from 0.
        time: seconds since the first frame.
        image: RGB uint8 [H, W, 3].
    """

    index: int  # type: ignore[assignment]  # in the place of a method of tuples
    time: float
    image: NDArray[np.uint8]


@dataclass(frozen=True)
class Cut:
    """Which frames of a video are wanted.

    Attributes:
        start, end: seconds since its first frame; None for its end.
        every: only each n-th of these.
    """

    start: float = 0.0
    end: float | None = None
    every: int = 1

    def __post_init__(self) -> None:
        if not self.start >= 0 or not (self.end is None or self.end > self.start):
            end = "its end" if self.end is None else f"{self.end} s"
            raise ConfigError(f"A video from {self.start} s to {end} has no frames.")
        if self.every < 1:
            raise ConfigError(f"Each {self.every}-th frame cannot be taken; give at least 1.")


WHOLE = Cut()


class Coded(NamedTuple):
    """A frame that may be decoded.

    Attributes:
        number, time: see `Frame`.
        decode: gives its pixels, None if they are damaged; None itself where that is known.
    """

    number: int
    time: float
    decode: Callable[[], NDArray[np.uint8] | None] | None


class VideoReader(ABC):
    """A video, to iterate over once as `Frame`s; close it or use it in `with`.

    Attributes:
        name: what messages call it.
        frame_rate: frames a second, 25 where the file or camera does not say.
        frame_count: frames the file says it has; None for a live source, or if it does not say.
        duration: seconds the file says its pictures last, if it does not count them; None elsewhere.
        cut: which frames it gives.
        ended: all were read, up to the end of the video.
    """

    ended = False
    duration: float | None = None

    name: str
    live: bool
    frame_rate: float
    frame_count: int | None
    cut: Cut

    @abstractmethod
    def _coded(self) -> Iterator[Coded]:
        """All frames in their order, those before `cut.start` perhaps left out."""

    @abstractmethod
    def close(self) -> None:
        """Closes the file or camera."""

    def _start(self) -> None:
        """Reading one frame ahead shows now, not in the middle of the work, that there are none."""
        self._frames = self._wanted()
        self._first = next(self._frames, None)
        if self._first is None:
            where = f" from {self.cut.start:g} s on" if self.cut.start else ""
            raise ImageError(f"Cannot read {self.name}: no frame{where} can be decoded.")

    @property
    def wanted_count(self) -> int | None:
        """About how many frames the cut has; None if that is not known."""
        if self.frame_count is None:
            return None
        duration = self.frame_count / self.frame_rate
        seconds = min(duration, self.cut.end or duration) - self.cut.start
        return max(1, round(seconds * self.frame_rate / self.cut.every))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        """Yields each frame once; a video cannot be rewound.

        Frames that cannot be decoded are left out, while the numbers count on.

        Raises:
            ImageError: at the end: frames were left out, or the video breaks off.
        """
        if self._first is not None:
            first, self._first = self._first, None
            yield first
        yield from self._frames

    def _wanted(self) -> Iterator[Frame]:
        damaged: list[int] = []
        read, taken, last = 0, 0, 0.0
        for number, time, decode in self._coded():
            if self.cut.end is not None and time >= self.cut.end:
                break
            if time < self.cut.start:
                continue
            image = None
            if decode is not None:
                read, last = number + 1, time
                taken += 1
                if (taken - 1) % self.cut.every:
                    continue
                image = decode()
            if image is None:
                damaged.append(number)
            else:
                yield Frame(number, time, image)
        else:
            self.ended = True
            self._say_where_it_ends(read, last)
        # What follows the last good frame is the end, not damage.
        damaged = [number for number in damaged if number < read]
        if damaged:
            raise ImageError(
                f"Cannot read {len(damaged)} of the {read} frames of {self.name}, between numbers "
                f"{damaged[0]} and {damaged[-1]}: they are damaged; all others were searched."
            )

    def _say_where_it_ends(self, read: int, last: float) -> None:
        if not read:
            return
        if self.live:
            raise ImageError(f"Cannot read on from {self.name}: it gave {read} frames and stopped.")
        # Both are estimates in some containers, so only a plain lack is an error.
        if self.duration is not None:
            lacks, of = last < 0.9 * self.duration - 2 / self.frame_rate, f"{self.duration:.1f} s"
            where = f"{last:.1f} s"
        else:
            count = self.frame_count or 0
            lacks, where, of = read < min(0.9 * count, count - 2), str(read), f"{count} frames"
        if lacks:
            raise ImageError(
                f"Cannot read on from {self.name}: it breaks off after {where} of {of}."
            )


class FrameWriter(ABC):
    """See `video.VideoWriter`."""

    def __init__(
        self, path: str | os.PathLike[str], frame_rate: float | Fraction, mark: str | None
    ):
        self.path = Path(path)
        self.frame_rate, self._mark = frame_rate, mark
        self._size: tuple[int, int] | None = None
        self._file = ExitStack()

    @abstractmethod
    def _open(self, partial: Path, width: int, height: int) -> None:
        """Begins the file, of frames whose sides are even."""

    @abstractmethod
    def _add(self, image: NDArray[np.uint8], time: float | None) -> None:
        """Adds a frame with even sides."""

    @abstractmethod
    def _finish(self) -> None:
        """Ends the file; nothing is added to it."""

    def write(self, image: NDArray[np.uint8], time: float | None = None) -> None:
        """Adds a frame.

        Args:
            image: RGB uint8 [H, W, 3].
            time: seconds since the video's first frame, `Frame.time`; None for the next one at the
                frame rate. OpenCV knows no others.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ImageError(
                f"Cannot write {self.path}: a frame is uint8 [H, W, 3], "
                f"not {image.dtype} {list(image.shape)}."
            )
        height, width = image.shape[:2]
        # Encoders want even sides: the last row or column is repeated where one is missing.
        odd = (height % 2, width % 2)
        if self._size is None:
            with ExitStack() as stack:
                partial = stack.enter_context(
                    whole_file(self.path, error=ImageError, suffix=self.path.suffix)
                )
                self._open(partial, width + odd[1], height + odd[0])
                stack.callback(self._end, partial)
                self._size, self._file = (width, height), stack.pop_all()
        if (width, height) != self._size:
            raise ImageError(
                f"Cannot write {self.path}: a frame is {width} x {height} pixels, "
                f"the first was {self._size[0]} x {self._size[1]}."
            )
        if any(odd):
            image = np.pad(image, ((0, odd[0]), (0, odd[1]), (0, 0)), mode="edge")
        self._add(image, time)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.__exit__(kind, failure, trace)

    def close(self) -> bool:
        """Finishes the file; without any frame nothing is written. Whether there is a file now."""
        self.__exit__(None, None, None)
        return self._size is not None

    def _end(self, partial: Path) -> None:
        self._finish()
        if self._mark:  # which also fails where the disk is full: OpenCV does not say so
            with partial.open("ab") as file:
                file.write(end_mark(partial, self._mark))
