"""One run of `detect`: images and videos in, lines, drawings, crops and meshes out."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from retinaface_tf.cli.json_output import JsonLines
from retinaface_tf.cli.label_files import LabelFiles
from retinaface_tf.cli.output_names import OutputNames, own_stems
from retinaface_tf.cli.summary import Summary
from retinaface_tf.cli.video_options import search_frames
from retinaface_tf.errors import ImageError, RetinaFaceError
from retinaface_tf.faces.faces import Faces
from retinaface_tf.images.listing import IMAGE_SUFFIXES, list_inputs, said_left_out
from retinaface_tf.images.read import CachedImage, NamedBytes, colour_profile, read_image
from retinaface_tf.images.remote import RemoteImage, is_remote
from retinaface_tf.images.save import drawing_name, mark_of, save_image
from retinaface_tf.inference.preprocess import DEFAULT_MAX_SIDE
from retinaface_tf.util.progress import progress_bar

if TYPE_CHECKING:
    from retinaface_tf.cli.detect import OutputOptions
    from retinaface_tf.cli.video_options import VideoOptions
    from retinaface_tf.images.video_frames import FrameWriter
    from retinaface_tf.inference.detector import Detector

STANDARD_INPUT = "-"
_STANDARD_INPUT_NAME = Path("stdin.png")  # of what is made of it
_LARGEST_INPUT = 1 << 30  # bytes of standard input


class Source(NamedTuple):
    """An image or video of the command line.

    Attributes:
        given: its path, or the bytes of standard input.
        shown: what lines and messages call it.
        name: relative path of outputs made of it, with suffix.
        stem: the same without suffix, and no other source's.
        mark: what files made of it carry.
    """

    given: Any
    shown: str
    name: Path
    stem: Path
    mark: str

    @property
    def is_file(self) -> bool:
        """Whether it is one: neither standard input nor an address."""
        return not isinstance(self.given, bytes | RemoteImage)

    @property
    def path(self) -> Path:
        """The file; of what is none, what it is called."""
        return Path(self.given) if self.is_file else self.name

    @property
    def root(self) -> Path | None:
        """The folder that `name` is relative to; None where the name is not the file's own."""
        count = len(self.name.parts)
        same = self.path.parts[-count:] == self.name.parts
        return Path(*self.path.parts[:-count]) if same else None


@dataclass(frozen=True)
class Inputs:
    """What the command line names.

    Attributes:
        images, videos: in their order.
        left_out: a sentence on files of folders that are neither; "" for none.
    """

    images: list[Source]
    videos: list[Source]
    left_out: str

    @classmethod
    def of(cls, words: list[str], *, allow_private: bool = False) -> Inputs:
        """Lists folders and patterns, and reads standard input for "-"; addresses are read later.

        Args:
            words: of the command line.
            allow_private: addresses may be in the own network.

        Raises:
            ImageError: a folder or pattern without images, an empty name, or too large an input.
        """
        from retinaface_tf.images.remote import require_public
        from retinaface_tf.images.video import is_address, is_video

        remote = [RemoteImage(w, allow_private=allow_private) for w in words if _is_photo(w)]
        words = [word for word in words if not _is_photo(word)]
        videos = [word for word in words if is_video(word)]
        for word in videos:
            if word.lower().startswith("http") and not allow_private and is_address(word):
                require_public(word)
        listed = list_inputs([word for word in words if not is_video(word)])
        video_names = [Path(Path(word.replace(":", "_")).name) for word in videos]
        named = [
            (path, _STANDARD_INPUT_NAME if str(path) == STANDARD_INPUT else name)
            for path, name in listed.images
        ]
        named += [(image, _remote_name(image)) for image in remote]
        stems = own_stems([*(name for _, name in named), *video_names])
        images = []
        for (path, name), stem in zip(named, stems):
            given = _standard_input() if str(path) == STANDARD_INPUT else path
            images.append(Source(given, os.fspath(path), name, stem, mark_of(path)))
        return cls(
            images,
            [
                Source(word, word, name, stem, mark_of(word))
                for word, name, stem in zip(videos, video_names, stems[len(images) :])
            ],
            said_left_out(listed.left_out),
        )

    @property
    def files(self) -> list[Path]:
        """All that are files."""
        return [source.path for source in (*self.images, *self.videos) if source.is_file]


def _is_photo(word: str) -> bool:
    """Whether a word is an image's address, or a data URI."""
    from retinaface_tf.images.video import is_address, is_video

    return is_remote(word) and not (is_address(word) and is_video(word))


def _remote_name(image: RemoteImage) -> Path:
    return image.name if image.name.suffix.lower() in IMAGE_SUFFIXES else Path(f"{image.name}.png")


def _standard_input() -> NamedBytes:
    content = sys.stdin.buffer.read(_LARGEST_INPUT + 1)
    if len(content) > _LARGEST_INPUT:
        raise ImageError("Cannot read standard input: it has more than 1 GiB.")
    return NamedBytes(content, "standard input")


class DetectRun:
    """One call of `detect`; use it in `with`.

    Args:
        detector: what finds the faces.
        batch_size: images given to it at once.
        output: where its answers go.
        inputs: what is searched.
        videos: which frames of videos.

    Attributes:
        summary: counts, and rows of the table.
        drawn: the drawings that were written.

    Raises:
        ConfigError: the file of the JSON lines is in the way.
    """

    def __init__(
        self,
        detector: Detector,
        batch_size: int,
        output: OutputOptions,
        inputs: Inputs,
        videos: VideoOptions,
    ):
        self.detector, self.batch_size, self.output = detector, batch_size, output
        self.inputs, self.videos = inputs, videos
        self.summary, self.drawn = Summary(output.every), []
        self._names = OutputNames(inputs.files, overwrite=output.overwrite)
        self._shrunk, self._truncated = False, 0
        self._tracks = None
        if videos.tracking:
            from retinaface_tf.cli.track_output import TrackOutput

            self._tracks = TrackOutput(
                videos,
                detector.settings.threshold,
                lambda pixels, faces: faces.crops(pixels, *output.crop_options),
            )
        self._stack = ExitStack()
        self._labels = LabelFiles(output, inputs, filter(None, (output.json, videos.tracks)))
        self._lines = None
        self._done: dict[str, int] = {}
        self._failed: set[str] = set()
        if output.json:
            self._lines = JsonLines(
                output.json, inputs.files, resume=output.resume, overwrite=output.overwrite
            )
            self._go_on()

    def __enter__(self) -> DetectRun:
        if self._lines:
            self._stack.enter_context(self._lines)
        self.progress = self._stack.enter_context(
            progress_bar(transient=True, disable=not sys.stderr.isatty())
        )
        return self

    def __exit__(self, *failure) -> None:
        self._stack.__exit__(*failure)

    def _go_on(self) -> None:
        """Counts what an earlier run answered; `_done` has the lines of each source, and
        `_failed` those that ended with an error."""
        kept = self._lines.kept
        # A drawn video is written as a whole: one that may be unfinished is searched again.
        if kept and self.output.draw and "frame" in kept[-1]:
            last = kept[-1]["image"]
            begun = next(i for i, entry in enumerate(kept) if entry["image"] == last)
            self._lines.keep(begun)
        for entry in kept:
            name = str(entry["image"])
            self._done[name] = self._done.get(name, 0) + 1
            if "error" in entry:
                self._failed.add(name)
            self.summary.add_known(entry)
            self._labels.add(entry)

    def search_images(self) -> None:
        """Every image of the inputs that has no line yet."""
        left, images = Counter(self._done), []
        for source in self.inputs.images:  # what is named twice has two lines
            left[source.shown] -= 1
            if left[source.shown] < 0:
                images.append(source)
        wanted = bool(self.output.folders) or self.output.needs_pixels
        # Images that are drawn stay decoded until then: no more than a batch of them.
        step = max(1, self.batch_size if wanted else len(images))
        task = self.progress.add_task("images", total=len(images), visible=len(images) > 1)
        for start in range(0, len(images), step):
            group = images[start : start + step]
            given = [_kept(source.given) if wanted else source.given for source in group]
            for source, one, answer in zip(group, given, self._answers(given, wanted)):
                self.progress.advance(task)
                if isinstance(answer, ImageError):
                    self._fail(source, answer)
                    continue
                self._shrunk |= max(answer.image_size) > DEFAULT_MAX_SIDE
                try:
                    pixels = read_image(one) if wanted else None
                    answer, entry = self._chosen(answer, pixels)
                    if self.output.folders:
                        self._write_files(source, pixels, answer, entry, one)
                except RetinaFaceError as error:
                    self._fail(source, error)
                    continue
                self._report(source, answer, {}, entry)

    def _answers(self, images: list[Any], kept: bool) -> Iterator[Faces | ImageError]:
        """What the detector says of each image, in order; of many that need not be kept decoded, in
        processes that end with this run."""
        from retinaface_tf.inference.in_processes import gains_from_processes, stream_in_processes

        if not kept and gains_from_processes(self.detector, len(images)):
            return self._stack.enter_context(
                stream_in_processes(self.detector, images, batch_size=self.batch_size)
            )
        return self.detector.stream(images, batch_size=self.batch_size)

    def search_videos(self) -> None:
        """Every frame of each video or webcam, up to `--frames`."""
        for source in self.inputs.videos:
            if source.shown in self._failed:
                continue
            try:
                self._search_video(source)
            except RetinaFaceError as error:
                self._fail(source, error)

    def _search_video(self, source: Source) -> None:
        from retinaface_tf.images.video import VideoWriter, open_video, read_ahead

        done = self._done.get(source.shown, 0)
        limit = self.output.frames
        with ExitStack() as stack:
            video = stack.enter_context(open_video(source.given, self.videos.cut))
            writer = None
            if self.output.draw:
                path = self._names.claim(
                    self.output.draw / source.stem.with_suffix(".mp4"), source.mark
                )
                writer = VideoWriter(path, video.frame_rate, source.mark, like=video)
                # Whatever ends the video, the frames written so far are kept.
                stack.callback(self._finish_video, writer)
            total = min(filter(None, (video.wanted_count, limit)), default=None)
            task = self.progress.add_task(source.name.name, total=total, completed=done)
            frames = stack.enter_context(closing(read_ahead(iter(video))))
            wanted = islice(frames, done, limit and min(limit, sys.maxsize))
            batch_size = 1 if video.live else self.batch_size
            settings = {}
            if self._tracks:
                self._tracks.begin(video.frame_rate / self.videos.each)
                stack.callback(self._end_tracks, source)
                settings["threshold"] = self._tracks.settings.least
            found = search_frames(self.detector, wanted, batch_size, source.shown, **settings)
            for count, (frame, faces) in enumerate(found, start=done):
                self.progress.advance(task)
                if writer and count == done:
                    self._draw_again(source, done, writer)
                if self._tracks:
                    faces = self._tracks.follow(frame, faces)
                faces, entry = self._chosen(faces, frame.image)
                if writer:
                    writer.write(faces.draw(frame.image), frame.time)
                    entry["drawn"] = str(writer.path)
                place = source.stem.with_name(f"{source.stem.name}_{frame.index:06d}")
                self._write_faces(place, source.mark, frame.image, faces, entry)
                extra = {"frame": frame.index, "time": round(frame.time, 3)}
                self._report(source, faces, extra, entry)

    def _end_tracks(self, source: Source) -> None:
        folder = self.videos.best or Path()

        def place(number: int) -> Path:
            name = f"{source.stem.name}_track_{number:04d}.png"
            return self._names.claim(folder / source.stem.with_name(name), source.mark)

        self._tracks.end(source.shown, source.mark, place)

    def _draw_again(self, source: Source, frames: int, writer: FrameWriter) -> None:
        """A drawn video is written as a whole: with the frames that have their lines already."""
        from retinaface_tf.images.video import open_video

        if not frames:
            return
        with open_video(source.given, self.videos.cut) as video:
            for frame, faces in search_frames(
                self.detector, islice(video, frames), self.batch_size, source.shown
            ):
                faces, _ = self._chosen(faces, frame.image)
                writer.write(faces.draw(frame.image), frame.time)

    def _finish_video(self, writer) -> None:
        if writer.close():
            self.drawn.append(writer.path)

    def _write_files(
        self, source: Source, pixels: np.ndarray, faces: Faces, entry: dict, given: Any
    ) -> None:
        """The drawing, crops and meshes of an image; `entry` then names them."""
        if self.output.draw:
            path = self._names.claim(self.output.draw / drawing_name(source.name), source.mark)
            save_image(
                path, faces.draw(pixels), mark=source.mark, icc_profile=colour_profile(given)
            )
            entry["drawn"] = str(path)
            self.drawn.append(path)
        self._write_faces(source.stem, source.mark, pixels, faces, entry)

    def _write_faces(
        self, stem: Path, mark: str, pixels: np.ndarray, faces: Faces, entry: dict
    ) -> None:
        """`STEM_INDEX.png`, the face's crop, and its mesh; in the order of the faces."""
        if self.output.crops:
            for number, crop in enumerate(faces.crops(pixels, *self.output.crop_options)):
                wished = self.output.crops / stem.with_name(f"{stem.name}_{number:03d}.png")
                path = self._names.claim(wished, mark)
                save_image(path, crop, mark=mark)
                entry["faces"][number]["crop"] = str(path)
        if self.output.mesh and faces.vertices is not None:
            from retinaface_tf.mesh.face_mesh import write_face_mesh

            for number, vertices in enumerate(faces.vertices):
                name = f"{stem.name}_{number:03d}.{self.output.mesh_format}"
                path = self._names.claim(self.output.mesh / stem.with_name(name), mark)
                write_face_mesh(path, vertices, pixels, mark)
                entry["faces"][number]["mesh"] = str(path)

    def _chosen(self, faces: Faces, pixels: np.ndarray | None) -> tuple[Faces, dict]:
        """The faces that are asked for, and their JSON line's entry."""
        faces, quality = self.output.of(faces, pixels)
        entry = faces.to_dict()
        for number, face in enumerate(entry["faces"] if quality else ()):
            face |= quality.entry(number)
        return faces, entry

    def _report(self, source: Source, faces: Faces, extra: dict, entry: dict) -> None:
        self.summary.add(source.shown, faces, **extra)
        self._truncated += faces.truncated
        self._write_line({"image": source.shown, **extra, **entry})

    def _fail(self, source: Source, error: RetinaFaceError) -> None:
        self.summary.errors += 1
        self.progress.console.print(f"error: {error}", markup=False, soft_wrap=True)
        self._write_line({"image": source.shown, "error": str(error)})

    def _write_line(self, entry: dict) -> None:
        self._labels.add(entry)
        if self._lines:
            self._lines.write(entry)

    def write_labels(self) -> None:
        """The files of labels, tables and tracks, of all that was found."""
        self._labels.write()
        if self._tracks:
            self._tracks.write()

    def print_left(self) -> None:
        """Where a run that a server ended can go on, on standard error."""
        if self._lines and self._lines.resumable and self.summary.images:
            print(
                f"note: {self.output.json} has what was answered; --resume goes on.",
                file=sys.stderr,
            )

    def print_notes(self) -> None:
        """What the counts do not say, on standard error."""
        notes = [self.inputs.left_out] if self.inputs.left_out else []
        if self._done:
            count = sum(self._done.values())
            notes.append(f"{count} line{'s were' if count != 1 else ' was'} there already")
        settings = self.detector.settings
        if self._shrunk and settings.size is None and settings.zoom == "off":
            notes.append(
                f"larger images were searched at {DEFAULT_MAX_SIDE} pixels; --size original finds "
                "smaller faces"
            )
        if self._truncated:
            notes.append(
                f"{self._truncated} images or frames have more faces than the server's model gives; "
                "export it with a larger --max-faces, or without"
            )
        for note in notes:
            print(f"note: {note}.", file=sys.stderr)


def _kept(given: Any) -> Any:
    """The source such that its pixels are decoded once."""
    if isinstance(given, RemoteImage):
        return given.kept()
    return given if isinstance(given, bytes) else CachedImage(given)
