"""Video by FFmpeg (PyAV, the extra `video`): every codec, sound, times, addresses."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from fractions import Fraction
from functools import partial as bound
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from retinaface_tf.errors import ImageError, first_line
from retinaface_tf.images.video_frames import (
    USUAL_FRAME_RATE,
    Coded,
    Cut,
    FrameWriter,
    VideoReader,
)

# Seconds that an address may take to answer, and then be silent.
_TIMEOUT = (10.0, 10.0)
# A playlist must reach no further than the file that names it: no address from a file, no file from
# an address.
_PROTOCOLS = {True: "http,https,tcp,tls,udp,rtp,rtsp,rtmp,rtmps,srt,crypto,data", False: "file"}
# Encoders by the codec of the video that is copied, with settings that lose little.
_H264 = ("libx264", {"crf": "20", "preset": "veryfast"})
_VP9 = ("libvpx-vp9", {"crf": "28", "deadline": "realtime", "cpu-used": "6", "row-mt": "1"})
_AV1 = ("libsvtav1", {"crf": "28", "preset": "10"})
_ENCODERS = {
    "h264": _H264,
    "hevc": ("libx265", {"crf": "20", "preset": "veryfast", "x265-params": "log-level=none"}),
    "vp8": _VP9,
    "vp9": _VP9,
    "av1": _AV1,
}
_TICKS = Fraction(1, 90_000)  # of a second, where no video says otherwise
# What a file's metadata says of its own layout.
_OF_THE_FILE = ("encoder", "major_brand", "minor_version", "compatible_brands")
# Errors in a row after which a file is given up.
_MOST_ERRORS = 20


class AVReader(VideoReader):
    """See `video.open_video`."""

    def __init__(self, source: str | os.PathLike[str], cut: Cut, *, live: bool, remote: bool):
        self.name, self.live, self.cut, self.frame_count = str(source), live, cut, None
        self.remote = remote
        self.container = open_container(self.name, remote)
        try:
            video = next((s for s in self.container.streams.video if not _is_picture(s)), None)
            if video is None:
                raise ImageError(f"Cannot read {self.name}: it has no video, or no known codec.")
            self.video = video
            video.thread_type = "AUTO"
            self.rate = video.average_rate or video.guessed_rate or Fraction(USUAL_FRAME_RATE)
            self.frame_rate = float(self.rate)
            if not live:
                seconds = _duration(self.container, video)
                estimate = int(seconds * self.frame_rate) if seconds else 0
                self.frame_count = video.frames or estimate or None
                self.duration = None if video.frames else seconds
            # Seconds of the first frame on the clock of the file, which the sound has too.
            self.offset = 0.0
            self._start()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes the file or connection."""
        self.container.close()

    def _coded(self) -> Iterator[Coded]:
        number, first, last = 0, None, 0.0
        for frame in self._decoded():
            if isinstance(frame, int):  # so many are left out, before the start
                number += frame
                continue
            if frame is not None and frame.time is not None:
                if first is None:
                    first = self.offset = self._first_time(frame.time, number)
                last = frame.time - first
            else:
                last = number / self.frame_rate
            good = frame is not None and not frame.is_corrupt
            yield Coded(number, last, bound(_pixels, frame) if good else None)
            number += 1

    def _first_time(self, time: float, number: int) -> float:
        """When the video begins: with its first frame, `number` being 0, or before what was left out."""
        if not number or self.video.start_time is None:
            return time - number / self.frame_rate
        return float(self.video.start_time * self.video.time_base)

    def _decoded(self) -> Iterator[Any]:
        """Frames; None for one that is damaged, a number for those before the start."""
        waiting: list[Any] = []  # packets since the last key frame before the start
        begin = self.video.start_time or 0
        start = begin + self.cut.start / self.video.time_base
        searching = self.cut.start > 0 and not self.live
        failed = 0
        while failed < _MOST_ERRORS:
            try:
                for packet in self.container.demux(self.video):
                    failed = 0
                    if searching and packet.pts is not None and packet.pts < start:
                        if packet.is_keyframe and waiting:
                            yield len(waiting)
                            waiting.clear()
                        waiting.append(packet)
                        continue
                    searching = False
                    for one in (*waiting, packet):
                        yield from _decode(one)
                    waiting.clear()
                return
            except av.error.EOFError:
                return
            except av.error.FFmpegError:  # of what finds the packets: it may find more
                failed = _MOST_ERRORS if self.live else failed + 1


def _decode(packet: Any) -> Iterator[Any]:
    try:
        yield from packet.decode()
    except av.error.EOFError:
        return
    except av.error.FFmpegError:
        yield None


def open_container(name: str, remote: bool = False) -> Any:
    """FFmpeg's container of a file, or of an address.

    Raises:
        ImageError: it cannot be opened.
    """
    options = {"protocol_whitelist": _PROTOCOLS[remote]}
    if remote:
        options["rtsp_transport"] = "tcp"
    try:
        return av.open(
            name if remote else f"file:{name}",
            options=options,
            timeout=_TIMEOUT if remote else None,
            metadata_errors="replace",
        )
    except av.error.FFmpegError as error:
        reason = "it is not a video, or its codec is not known here"
        if remote:
            reason = f"{str(error.strerror).lower()}; see whether it is there and wants a password"
        raise ImageError(f"Cannot read {name}: {reason}.") from error


def container_for(video: AVReader) -> str:
    """The suffix of a copy: that of the file, or one whose format holds its frame times and sound."""
    own = Path(video.name).suffix.lower()
    if own in (".mp4", ".mov", ".m4v", ".mkv", ".webm"):
        return own
    with av.open(BytesIO(), "w", format="mp4") as file:
        held = file.supported_codecs
        sounds = {stream.codec.canonical_name for stream in video.container.streams.audio}
    return ".mp4" if sounds <= held else ".mkv"


def _duration(container: Any, video: Any) -> float | None:
    """Seconds of the pictures, as far as the file says."""
    if video.duration:
        return float(video.duration * video.time_base)
    hours, _, rest = video.metadata.get("DURATION", "").partition(":")  # of Matroska
    with contextlib.suppress(ValueError):
        return 3600 * float(hours) + 60 * float(rest[:2]) + float(rest[3:])
    alone = len(container.streams) == 1 and container.duration  # else the sound may last longer
    return container.duration / av.time_base if alone else None


def _is_picture(stream: Any) -> bool:
    """Whether it is a cover, not a video."""
    return bool(stream.disposition & stream.disposition.attached_pic)


def _pixels(frame: Any) -> NDArray[np.uint8]:
    """RGB, upright."""
    rgb = frame.to_ndarray(format="rgb24")
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(rgb, turns)) if turns else rgb


class AVWriter(FrameWriter):
    """See `video.VideoWriter`; `like` is what the frames are of."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        frame_rate: float | Fraction,
        mark: str | None,
        like: AVReader | None,
        facts: bool,
    ):
        super().__init__(path, frame_rate, mark)
        self._like, self._facts = like, facts

    def _open(self, partial: Path, width: int, height: int) -> None:
        like = self._like
        flags = {"movflags": "+faststart"} if self.path.suffix in (".mp4", ".mov", ".m4v") else {}
        try:
            self._output = av.open(f"file:{partial}", "w", container_options=flags)
            name, options = self._encoder(like.video.codec.canonical_name if like else "h264")
            rate = Fraction(self.frame_rate).limit_denominator(100_000)
            if like and like.video.bit_rate:  # no more than twice as large as what was read
                options = options | {"maxrate": str(2 * like.video.bit_rate)}
                options |= {"bufsize": str(4 * like.video.bit_rate)}
            stream: Any = self._output.add_stream(name, rate=rate, options=options)
        except (av.error.FFmpegError, ValueError) as error:
            raise ImageError(f"Cannot write {self.path}: {first_line(error)}.") from error
        self._video = stream
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        coder = stream.codec_context
        self._tick = coder.time_base = (like and like.video.time_base) or _TICKS
        self._last, self._time, self._zero = -1, 0.0, 0.0
        self._sound, self._waiting = iter(()), None
        if name == "libx265" and flags:
            coder.codec_tag = "hvc1"  # which Apple's players want
        if like is None:
            return
        read = like.video.codec_context
        for fact in ("colorspace", "color_primaries", "color_trc"):
            setattr(coder, fact, getattr(read, fact))
        coder.color_range = 1  # limited, which players expect
        # swscale's numbers are those of the standard, but for BT.601, which is also its default.
        self._matrix = 5 if read.colorspace in (0, 2, 6) else read.colorspace
        if (shape := like.video.sample_aspect_ratio) and shape != 1:
            turned = (width > height) != (read.width > read.height)
            coder.sample_aspect_ratio = 1 / shape if turned else shape
        facts = like.container.metadata.items() if self._facts else ()
        self._output.metadata.update({k: v for k, v in facts if k not in _OF_THE_FILE})
        if not like.live:
            self._sound = self._copied(like)
            next(self._sound)

    def _encoder(self, codec: str) -> tuple[str, dict[str, str]]:
        """Of the codec that was read, or else of one that browsers play."""
        for name, options in (_ENCODERS.get(codec, _H264), _H264, _VP9, _AV1):
            if name in av.codecs_available:
                written = av.Codec(name, "w").canonical_name
                if written in self._output.supported_codecs:
                    return name, options
        raise ImageError(f"Cannot write {self.path}: this FFmpeg encodes no video for it.")

    def _add(self, image: NDArray[np.uint8], time: float | None) -> None:
        like = self._like
        began = like.offset if like else 0.0
        if time is None:
            time = 0.0 if self._last < 0 else self._time + 1 / float(self.frame_rate)
        if self._last < 0:  # the sound may begin before the first frame
            start = (like.container.start_time or 0) / av.time_base if like else 0.0
            self._zero = start if time == 0 else began + time
        self._time = time
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        if like:
            frame = frame.reformat(format="yuv420p", dst_colorspace=self._matrix)
        self._last = max(self._last + 1, round((began + time - self._zero) / self._tick))
        frame.pts, frame.time_base = self._last, self._tick
        try:
            self._output.mux(self._video.encode(frame))
            self._copy_sound(self._last * self._tick)
        except av.error.FFmpegError as error:
            if isinstance(error, OSError):
                raise
            raise ImageError(f"Cannot write {self.path}: {first_line(error)}.") from error

    def _finish(self) -> None:
        with self._output:
            self._output.mux(self._video.encode())
            whole = self._like is not None and self._like.ended
            self._copy_sound(None if whole else (self._last + 1) * self._tick)

    def _copied(self, like: AVReader) -> Iterator[Any]:
        """Packets of sound and subtitles, from a second look at the file."""
        with open_container(like.name, like.remote) as container:
            known = self._output.supported_codecs
            streams = {
                stream: self._output.add_stream_from_template(stream)
                for stream in (*container.streams.audio, *container.streams.subtitles)
                if stream.codec_context and stream.codec.canonical_name in known
            }
            yield None  # all streams are there: the file may begin
            if not streams:
                return
            with contextlib.suppress(av.error.FFmpegError):  # what is damaged ends the sound
                for packet in container.demux(*streams):
                    if packet.dts is None:
                        continue
                    shift = round(self._zero / packet.time_base)
                    packet.pts, packet.dts = (
                        None if at is None else at - shift for at in (packet.pts, packet.dts)
                    )
                    packet.stream = streams[packet.stream]
                    if packet.dts >= 0 or not like.cut.start:  # encoders begin before the start
                        yield packet

    def _copy_sound(self, until: Fraction | None) -> None:
        """Up to a second of the new file, or to its end."""
        while True:
            self._waiting = self._waiting or next(self._sound, None)
            late = (
                until is not None
                and self._waiting
                and (self._waiting.dts * self._waiting.time_base > until)
            )
            if self._waiting is None or late:
                return
            self._output.mux(self._waiting)
            self._waiting = None
