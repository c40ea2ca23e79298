"""Video in and out: files, addresses and webcams, frame by frame, by FFmpeg or without it by OpenCV.

The extra `video` brings FFmpeg (PyAV): it also keeps sound and times, and skips what is not wanted
without decoding it. Webcams are OpenCV's.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from retinaface_tf.errors import ImageError
from retinaface_tf.images.listing import VIDEO_SUFFIXES
from retinaface_tf.images.video_frames import (
    USUAL_FRAME_RATE,
    WHOLE,
    Cut,
    Frame,
    FrameWriter,
    VideoReader,
)
from retinaface_tf.util.extras import is_installed, require
from retinaface_tf.util.files import is_folder, is_special

_WEBCAM = "webcam"
_ADDRESSES = ("rtsp://", "rtsps://", "rtmp://", "rtmps://", "srt://", "http://", "https://")
_READ_AHEAD = 8  # frames: of 1080 lines 50 MB


def is_video(source: str | os.PathLike[str]) -> bool:
    """Whether a name means a video file (by its suffix), a stream's address, or a webcam.

    Webcams are "webcam" and "webcam:1". An address with http has to end as a video's name does.
    """
    name = os.fspath(source)
    if _camera_index(source) is not None:
        return True
    if is_address(name):
        path = name.partition("?")[0].lower()
        return not path.startswith("http") or Path(path).suffix in {*VIDEO_SUFFIXES, ".m3u8"}
    return Path(source).suffix.lower() in VIDEO_SUFFIXES and not is_folder(source)


def is_address(source: str | int | os.PathLike[str]) -> bool:
    """Whether it is an address of the network."""
    return isinstance(source, str) and source.lower().startswith(_ADDRESSES)


def is_live(source: str | int | os.PathLike[str]) -> bool:
    """Whether it is a webcam or a stream: what cannot be read twice."""
    return _camera_index(source) is not None or (
        is_address(source) and not str(source).lower().startswith("http")
    )


def open_video(source: str | int | os.PathLike[str], cut: Cut = WHOLE) -> VideoReader:
    """A video file, address or webcam, to iterate over as `Frame`s; close it or use it in `with`.

    Args:
        source: path of a file, "rtsp://..." and the like, "webcam", "webcam:N" or the webcam's
            number N.
        cut: which frames are wanted.

    Raises:
        ImageError: it cannot be opened or holds no such frame; while iterating: it breaks off.
        MissingPackage: an address needs the extra `video`.
    """
    camera = _camera_index(source)
    if camera is None and not isinstance(source, int):
        if is_address(source):
            require("video", for_="Reading from an address")
        else:
            _check_file(Path(source))
        if reads_by_ffmpeg():
            from retinaface_tf.images.video_av import AVReader

            return AVReader(source, cut, live=is_live(source), remote=is_address(source))
    from retinaface_tf.images.video_opencv import OpenCVReader

    return OpenCVReader(source, camera, cut)


def reads_by_ffmpeg() -> bool:
    """Whether the extra `video` is installed."""
    return is_installed("av")


def VideoWriter(
    path: str | os.PathLike[str],
    frame_rate: float | Fraction = USUAL_FRAME_RATE,
    mark: str | None = None,
    like: VideoReader | None = None,
    facts: bool = True,
) -> FrameWriter:
    """Writes a video file: under a temporary name, moved to its own when complete.

    Use it in `with`; if the block raises, nothing is left behind. The first frame sets the size.

    Args:
        path: file to write; ends in .mp4, with the extra `video` also in .mov, .mkv or .webm.
        frame_rate: frames a second.
        mark: see `save.end_mark`.
        like: the video that the frames are of: with the extra `video` its sound is copied, and its
            codec and shape of pixels are kept as far as a browser plays them.
        facts: and its title, date and place.

    Raises:
        ImageError: the file cannot be written, or a frame has another size or type.
    """
    if reads_by_ffmpeg():
        from retinaface_tf.images.video_av import AVReader, AVWriter

        return AVWriter(path, frame_rate, mark, like if isinstance(like, AVReader) else None, facts)
    from retinaface_tf.images.video_opencv import OpenCVWriter

    return OpenCVWriter(path, frame_rate, mark)


def read_ahead(frames: Iterator[Frame]) -> Iterator[Frame]:
    """The same frames, decoded in a thread while the last ones are searched."""
    waiting: queue.Queue[Frame | BaseException | None] = queue.Queue(_READ_AHEAD)
    stopped = threading.Event()

    def put(item: Frame | BaseException | None) -> bool:
        while not stopped.is_set():
            try:
                waiting.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def decode() -> None:
        try:
            for frame in frames:
                if not put(frame):
                    return
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=decode, daemon=True)
    thread.start()
    try:
        while (item := waiting.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()


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
