"""Video by OpenCV: without sound and with one frame rate, but the core has it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from retinaface_tf.errors import ImageError
from retinaface_tf.images.video_frames import (
    USUAL_FRAME_RATE,
    Coded,
    Cut,
    FrameWriter,
    VideoReader,
)


class OpenCVReader(VideoReader):
    """See `video.open_video`; `camera` is the number of a webcam, None for a file."""

    def __init__(self, source: str | int | os.PathLike[str], camera: int | None, cut: Cut):
        self.live, self.cut = camera is not None, cut
        opened: str | int
        if isinstance(source, int) or camera is not None:
            opened = camera or 0
            self.name = f"webcam {opened}"
            failure = "there is no such camera, or another program uses it"
        else:
            self.name, opened = str(source), os.fspath(source)
            failure = "it is not a video, or its codec is not known here"
        try:
            self._capture = cv2.VideoCapture(opened)
        except cv2.error:
            self._capture = cv2.VideoCapture()
        try:
            if not self._capture.isOpened():
                raise ImageError(f"Cannot read {self.name}: {failure}.")
            rate = self._capture.get(cv2.CAP_PROP_FPS)
            self.frame_rate = float(rate) if 0 < rate <= 1000 else USUAL_FRAME_RATE
            count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)) if not self.live else 0
            self.frame_count = count if count > 0 else None
            self._start()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes the file or camera."""
        self._capture.release()

    def _coded(self) -> Iterator[Coded]:
        index, started = 0, None
        while True:
            good = self._grab()
            # Without a count the first frame that cannot be read is the end.
            if not good and index >= (self.frame_count or 0):
                return
            # A webcam's clock starts anywhere; a file's timestamps, where it has any, from 0.
            seconds = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            if self.live:
                started = seconds if started is None else started
                seconds -= started
            elif not good or seconds <= 0:
                seconds = index / self.frame_rate
            yield Coded(index, seconds, self._retrieve if good else None)
            index += 1

    def _grab(self) -> bool:
        try:
            return self._capture.grab()
        except cv2.error:
            return False

    def _retrieve(self) -> NDArray[np.uint8] | None:
        try:
            good, image = self._capture.retrieve()
        except cv2.error:
            return None
        if not good or image is None:
            return None
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


class OpenCVWriter(FrameWriter):
    """See `video.VideoWriter`: MPEG-4 in MP4."""

    def _open(self, partial: Path, width: int, height: int) -> None:
        code = cv2.VideoWriter.fourcc(*"mp4v")
        rate = float(self.frame_rate)
        self._writer = cv2.VideoWriter(os.fspath(partial), code, rate, (width, height))
        if not self._writer.isOpened():
            raise ImageError(
                f"Cannot write {self.path}: this OpenCV cannot encode MP4 video of "
                f"{width} x {height} pixels at {rate} frames a second."
            )

    def _add(self, image: NDArray[np.uint8], time: float | None) -> None:
        self._writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))

    def _finish(self) -> None:
        self._writer.release()
