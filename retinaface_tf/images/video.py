"""Video files and webcams, frame by frame, and writing annotated video (OpenCV)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from retinaface_tf.errors import ImageError
from retinaface_tf.images.listing import VIDEO_SUFFIXES
from retinaface_tf.images.save import end_mark
from retinaface_tf.util.files import is_folder, is_special, whole_file

_WEBCAM = "webcam"
_USUAL_FRAME_RATE = 25.0


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


def is_video(source: str | os.PathLike[str]) -> bool:
    """Whether a name means a video file (by its suffix) or a webcam ("webcam", "webcam:1")."""
    return _camera_index(source) is not None or (
        Path(source).suffix.lower() in VIDEO_SUFFIXES and not is_folder(source)
    )


class open_video:
    """A video file or webcam, to iterate over as `Frame`s; close it or use it in `with`.

    Args:
        source: path of a file, "webcam", "webcam:N" or the webcam's number N.

    Attributes:
        frame_rate: frames a second, 25 where the file or camera does not say.
        frame_count: frames the file says it has; None for a webcam, or if it does not say.

    Raises:
        ImageError: it cannot be opened or holds no frame; while iterating: it breaks off.
    """

    def __init__(self, source: str | int | os.PathLike[str]):
        self._camera = _camera_index(source)
        opened: str | int
        if self._camera is None and not isinstance(source, int):
            self.name, failure = str(source), "it is not a video, or its codec is not known here"
            opened = os.fspath(source)
            _check_file(Path(source))
        else:
            opened = self._camera or 0
            self.name = f"webcam {opened}"
            failure = "there is no such camera, or another program uses it"
        try:
            self._capture = cv2.VideoCapture(opened)
        except cv2.error:
            self._capture = cv2.VideoCapture()
        try:
            self._start(failure)
        except BaseException:
            self.close()
            raise

    def _start(self, failure: str) -> None:
        if not self._capture.isOpened():
            raise ImageError(f"Cannot read {self.name}: {failure}.")
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.frame_rate = float(rate) if 0 < rate <= 1000 else _USUAL_FRAME_RATE
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)) if self._camera is None else 0
        self.frame_count = count if count > 0 else None
        # Reading one frame ahead shows now, not in the middle of the work, that there are none.
        self._first = self._next_frame()
        if self._first is None:
            raise ImageError(f"Cannot read {self.name}: no frame can be decoded.")

    def __enter__(self) -> open_video:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file or camera."""
        self._capture.release()

    def __iter__(self) -> Iterator[Frame]:
        """Yields each frame once; a video cannot be rewound.

        Frames that cannot be decoded are left out, while the numbers count on.

        Raises:
            ImageError: at the end: frames were left out, or the video breaks off.
        """
        image, index = self._first, 0
        self._first = None
        started = None
        damaged: list[int] = []
        while True:
            if image is None:
                damaged.append(index)
                # Without a count the first frame that cannot be read is the end.
                if index + 1 >= (self.frame_count or 0):
                    break
            else:
                # A webcam's clock starts anywhere; a file's timestamps, where it has any, from 0.
                seconds = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                if self._camera is not None:
                    started = seconds if started is None else started
                    seconds -= started
                elif seconds <= 0:
                    seconds = index / self.frame_rate
                yield Frame(index, seconds, image)
            index += 1
            image = self._next_frame()
        # What follows the last good frame is the end, not damage.
        while damaged and damaged[-1] == index:
            damaged.pop()
            index -= 1
        self._say_what_is_missing(index + 1, damaged)

    def _next_frame(self) -> np.ndarray | None:
        """The next frame; None where it cannot be decoded, or there is none."""
        try:
            good, image = self._capture.read()
            return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if good and image is not None else None
        except cv2.error:
            return None

    def _say_what_is_missing(self, read: int, damaged: list[int]) -> None:
        if self._camera is not None:
            raise ImageError(f"Cannot read on from {self.name}: it gave {read} frames and stopped.")
        # The count is an estimate in some containers, so only a plain lack is an error.
        if self.frame_count and read < min(0.9 * self.frame_count, self.frame_count - 2):
            raise ImageError(
                f"Cannot read on from {self.name}: it breaks off after {read} of "
                f"{self.frame_count} frames."
            )
        if damaged:
            raise ImageError(
                f"Cannot read {len(damaged)} of the {read} frames of {self.name}, between numbers "
                f"{damaged[0]} and {damaged[-1]}: they are damaged; all others were searched."
            )


class VideoWriter:
    """Writes an MP4 file: under a temporary name, moved to its own when complete.

    Use it in `with`; if the block raises, nothing is left behind. The first frame sets the size.

    Args:
        path: file to write; ends in .mp4.
        frame_rate: frames a second.
        mark: see `save.end_mark`.

    Raises:
        ImageError: the file cannot be written, or a frame has another size or type.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        frame_rate: float = _USUAL_FRAME_RATE,
        mark: str | None = None,
    ):
        self.path = Path(path)
        self.frame_rate, self._mark = frame_rate, mark
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._file = ExitStack()

    def write(self, image: np.ndarray) -> None:
        """Adds a frame: RGB uint8 [H, W, 3]."""
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ImageError(
                f"Cannot write {self.path}: a frame is uint8 [H, W, 3], "
                f"not {image.dtype} {list(image.shape)}."
            )
        height, width = image.shape[:2]
        writer = self._writer or self._open(width, height)
        if (width, height) != self._size:
            raise ImageError(
                f"Cannot write {self.path}: a frame is {width} x {height} pixels, "
                f"the first was {self._size[0]} x {self._size[1]}."
            )
        # MP4 wants even sides: the last row or column is repeated where one is missing.
        image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.__exit__(kind, failure, trace)

    def _finish(self, writer: cv2.VideoWriter, partial: Path) -> None:
        writer.release()
        if self._mark:  # which also fails where the disk is full: OpenCV does not say so
            with partial.open("ab") as file:
                file.write(end_mark(partial, self._mark))

    def close(self) -> bool:
        """Finishes the file; without any frame nothing is written. Whether there is a file now."""
        self.__exit__(None, None, None)
        return self._writer is not None

    def _open(self, width: int, height: int) -> cv2.VideoWriter:
        size = (width + width % 2, height + height % 2)
        with ExitStack() as stack:
            partial = stack.enter_context(whole_file(self.path, error=ImageError, suffix=".mp4"))
            code = cv2.VideoWriter.fourcc(*"mp4v")
            writer = cv2.VideoWriter(os.fspath(partial), code, self.frame_rate, size)
            if not writer.isOpened():
                raise ImageError(
                    f"Cannot write {self.path}: this OpenCV cannot encode MP4 video of "
                    f"{width} x {height} pixels at {self.frame_rate} frames a second."
                )
            self._writer, self._size = writer, (width, height)
            stack.callback(self._finish, writer, partial)
            self._file = stack.pop_all()
        return writer


def _camera_index(source: str | int | os.PathLike[str]) -> int | None:
    """0 for "webcam", N for "webcam:N" or N; None for a file."""
    if isinstance(source, int):
        return source
    name, _, number = os.fspath(source).partition(":")
    if name != _WEBCAM:
        return None
    if not number:
        return 0
    if not number.isdecimal():
        raise ImageError(f"Cannot read {source}: a webcam is webcam or webcam:N, N from 0.")
    return int(number)


def _check_file(path: Path) -> None:
    try:
        if is_folder(path):
            raise ImageError(f"Cannot read {path}: it is a folder, not a video.")
        if is_special(path):
            raise ImageError(
                f"Cannot read {path}: it is a pipe or device; write it to a file first."
            )
        with path.open("rb") as file:
            if not file.read(1):
                raise ImageError(f"Cannot read {path}: it is empty.")
    except OSError as error:
        reason = (
            "there is no such file"
            if isinstance(error, FileNotFoundError)
            else (error.strerror or "it cannot be opened").lower()
        )
        raise ImageError(f"Cannot read {path}: {reason}.") from error
