"""`retinaface-tf blur`: copies of photos and videos in which nobody can be recognised."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from retinaface_tf.cli.kept_people import KeepOptions
from retinaface_tf.cli.open_detector import DetectionOptions
from retinaface_tf.cli.options import AllowPrivate, Overwrite, Threads
from retinaface_tf.cli.output_names import OutputNames
from retinaface_tf.cli.video_options import CutOptions, search_frames
from retinaface_tf.config import DetectionSettings
from retinaface_tf.errors import ConfigError, ImageError, RetinaFaceError, named
from retinaface_tf.faces.blurring import DEFAULT_MARGIN, blur_boxes, check_blur
from retinaface_tf.faces.tracking import TrackingSettings
from retinaface_tf.images.rewrite import PhotoFile
from retinaface_tf.images.save import drawing_name, end_mark, mark_in, mark_of
from retinaface_tf.util.extras import require
from retinaface_tf.util.files import write_whole
from retinaface_tf.util.progress import progress_bar

if TYPE_CHECKING:
    from retinaface_tf.cli.detect_run import Source
    from retinaface_tf.faces.faces import Faces
    from retinaface_tf.images.video_frames import Frame
    from retinaface_tf.inference.detector import Detector
    from retinaface_tf.inference.test_time_augmentation import Augmentation

_SIZES_OF_PHOTOS = "default,1000"
_ENLARGED = 300.0
_OF_PHOTOS, _OF_VIDEOS = 0.12, 0.2
# In videos a detection this much weaker than the threshold continues a track.
_WEAK = 0.25
# One that is in no track must be this sure, where there are enough frames a second to follow a face.
_ALONE, _FOLLOWED_FROM = 0.5, 5.0
_CLOSE_UP = 1 / 3  # of the picture's shorter side


@dataclass(frozen=True, kw_only=True)
class BlurOptions(DetectionOptions):
    """How faces are searched and blurred. A face that is missed is worse than a false alarm."""

    threshold: Annotated[
        float | None,
        typer.Option(
            help="Least score of a face, 0 to 1; of photos the mean of all searches, 0.12 without "
            "this; of videos of what is followed, 0.2."
        ),
    ] = None
    scales: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help=f"Sizes of each search, as in `detect`; without, {_SIZES_OF_PHOTOS} for photos and "
            "one for videos.",
        ),
    ] = None
    flip: Annotated[
        bool | None,
        typer.Option(
            "--flip/--no-flip",
            help="Search the mirror image too; without, of photos but not of videos.",
        ),
    ] = None
    threads: Threads = None
    method: Annotated[
        str, typer.Option(help="gaussian, pixelate, or solid, which leaves nothing of a face.")
    ] = "gaussian"
    shape: Annotated[str, typer.Option(help="ellipse or box.")] = "ellipse"
    margin: Annotated[
        float, typer.Option(help="Each edge of a face moves out by this share of its side.")
    ] = DEFAULT_MARGIN
    facts: Annotated[
        bool, typer.Option("--facts/--no-facts", help="Keep time, place, camera and owner.")
    ] = True

    def __post_init__(self):
        check_blur(**self.manner)
        DetectionSettings(threshold=self.threshold or 0)  # refuses what is none

    @property
    def manner(self) -> dict[str, Any]:
        """Keywords of `Faces.blur`."""
        return {"method": self.method, "shape": self.shape, "margin": self.margin}

    @property
    def augmentation(self) -> Augmentation | None:
        """As in `detect`, but its searches have to agree, which lets the threshold be low.

        Large faces are left to the smallest size, where fewer are false.
        """
        chosen = super().augmentation
        several = chosen is not None and len(chosen.scales) > 1
        if chosen is None or chosen.tile or not chosen.vote:
            return chosen
        return replace(chosen, agree=True, enlarged_limit=_ENLARGED if several else None)

    @property
    def of_photos(self) -> BlurOptions:
        """With all that was not chosen as photos want it."""
        scales = self.scales or (_SIZES_OF_PHOTOS if self.size is None else None)
        return replace(
            self,
            scales=scales,
            flip=self.flip is None or self.flip,
            vote=True,
            threshold=_OF_PHOTOS if self.threshold is None else self.threshold,
        )

    @property
    def of_videos(self) -> BlurOptions:
        """With the weaker detections too, which tracks pick from."""
        return replace(self, threshold=_WEAK * self.video_threshold, flip=bool(self.flip))

    @property
    def video_threshold(self) -> float:
        """Least score of a face in a video that begins a track."""
        return _OF_VIDEOS if self.threshold is None else self.threshold

    @property
    def tracking(self) -> TrackingSettings:
        """What begins and continues the track of a face that must not be missed."""
        least = self.video_threshold
        return TrackingSettings(sure=least, least=_WEAK * least, begin=least)

    def alone(self, frame_rate: float) -> float:
        """Least score in a video of a face that is in no track: others flicker, faces do not."""
        return max(self.video_threshold, _ALONE if frame_rate >= _FOLLOWED_FROM else 0)


def blur(
    inputs: Annotated[
        list[str],
        typer.Argument(help="Photos, folders, videos, or - for standard input.", metavar="INPUT"),
    ],
    options: BlurOptions,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the copies.")],
    videos: CutOptions,
    keep: KeepOptions,
    resume: Annotated[
        bool, typer.Option("--resume", help="Leave out what has its copy in DIR already.")
    ] = False,
    allow_private: AllowPrivate = False,
    overwrite: Overwrite = False,
) -> None:
    """Write copies of photos and videos in which nobody can be recognised.

    Photos are searched at several sizes and mirrored, videos once, but faces are followed forwards
    and backwards, and the least score is low: few faces are missed, but that none is nobody can
    promise, so look at the copies. Format, JPEG quality, colour profile and EXIF stay; previews
    inside the file are left out. Videos keep their codec, frame times and sound. No original is
    replaced.
    """
    from retinaface_tf.cli.detect_run import Inputs
    from retinaface_tf.util.files import require_folder

    listed = Inputs.of(inputs, allow_private=allow_private)
    if listed.videos:
        require("video", for_="Blurring a video")
        if keep.keep:
            raise ConfigError("--keep works for photos only: in a video people cross.")
    require_folder(out)
    names = OutputNames(listed.files, overwrite=overwrite)
    with _BlurRun(options, videos, keep, out, names, resume) as run:
        for source in run.progress.track(listed.images, description="photos"):
            run.write(source, run.blur_photo)
        for source in listed.videos:
            run.write(source, run.blur_video)
    run.print_summary(listed.left_out)
    if run.errors:
        raise typer.Exit(1)


class _BlurRun:
    """One call of `blur`; use it in `with`."""

    def __init__(
        self,
        options: BlurOptions,
        videos: CutOptions,
        keep: KeepOptions,
        out: Path,
        names: OutputNames,
        resume: bool,
    ):
        self.options, self.videos, self.out = options, videos, out
        self.kept = keep.open(self.photo_detector) if keep.keep else None
        self.names, self.resume = names, resume
        self.written = self.errors = self.there = 0
        self.progress = progress_bar(transient=True, disable=not sys.stderr.isatty())

    def __enter__(self) -> _BlurRun:
        self.progress.__enter__()
        return self

    def __exit__(self, *failure) -> None:
        self.progress.__exit__(*failure)

    @cached_property
    def photo_detector(self) -> Detector:
        return self.options.of_photos.open_detector(threads=self.options.threads)

    @cached_property
    def video_detector(self) -> Detector:
        return self.options.of_videos.open_detector(threads=self.options.threads)

    def write(self, source: Source, work: Callable[[Source], tuple[Path, str] | None]) -> None:
        """Does one source's work, and says what became of it."""
        try:
            if (written := work(source)) is not None:
                path, what = written
                self.written += 1
                self._say(f"wrote {path}: {what}")
        except RetinaFaceError as error:
            self.errors += 1
            self._say(f"error: {error}")

    def _say(self, sentence: str) -> None:
        self.progress.console.print(sentence, markup=False, soft_wrap=True)

    def _claim(self, name: Path, source: Source) -> Path | None:
        """Where the copy goes; None where it is there already."""
        path = self.names.claim(self.out / name, source.mark)
        if self.resume and mark_in(path) == source.mark:
            self.there += 1
            return None
        return path

    def blur_photo(self, source: Source) -> tuple[Path, str] | None:
        """The copy that was written, and what it shows."""
        name = drawing_name(source.name)
        if isinstance(source.given, bytes):  # standard input, of any format
            name = name.with_suffix(PhotoFile(source.given).suffix)
        if (path := self._claim(name, source)) is None:
            return None
        photo = PhotoFile(source.given)
        found = self.photo_detector.detect(photo.frames, on_error="return")
        for answer in found:
            if isinstance(answer, ImageError):
                raise named(answer, source.shown)
        if self.kept:
            found = [self.kept.others(*pair) for pair in zip(found, photo.frames)]
        blurred = [
            faces.blur(frame, **self.options.manner) for faces, frame in zip(found, photo.frames)
        ]
        content = photo.encode(blurred, self.options.facts)
        write_whole(path, content + end_mark(path, source.mark), error=RetinaFaceError)
        count = sum(map(len, found))
        return path, f"{count} face{'s' * (count != 1)}"

    def blur_video(self, source: Source) -> tuple[Path, str] | None:
        """As `blur_photo`: the video is read twice, for its faces and for its copy.

        Raises:
            ImageError: it cannot be read, or a part of it is damaged; the copy has all others.
        """
        from retinaface_tf.faces.tracks import boxes_to_hide
        from retinaface_tf.images.video import VideoWriter, is_live, open_video, read_ahead
        from retinaface_tf.images.video_av import container_for
        from retinaface_tf.images.video_frames import WHOLE

        if is_live(source.given):
            raise ImageError(
                f"Cannot blur {source.shown}: faces are followed backwards too; record it first."
            )
        cut, options = self.videos.cut, self.options
        if cut != WHOLE:  # parts are copies of their own
            source = source._replace(mark=mark_of(f"{source.shown} {cut}"))
        with ExitStack() as stack:
            video = stack.enter_context(open_video(source.given, cut))
            if (path := self._claim(source.name.with_suffix(container_for(video)), source)) is None:
                return None
            task = self.progress.add_task(f"{source.name.name}: faces", total=video.wanted_count)
            frames = stack.enter_context(closing(read_ahead(iter(video))))
            keys, found, damage = [], [], None
            try:
                for frame, faces in search_frames(
                    self.video_detector, frames, options.batch_size, source.shown
                ):
                    keys.append((frame.index, frame.time))
                    found.append(likely_faces(faces))
                    self.progress.advance(task)
            except ImageError as error:  # at the end of what can be read
                damage = error
        if damage and not found:
            raise damage
        rate = video.frame_rate / cut.every
        hidden = boxes_to_hide(found, rate, options.alone(rate), options.tracking)
        places = dict(zip(keys, hidden))
        with (
            open_video(source.given, cut) as video,
            VideoWriter(path, video.rate, source.mark, video, options.facts) as writer,
            closing(read_ahead(iter(video))) as frames,
        ):
            self.progress.update(task, description=f"{source.name.name}: copy", completed=0)
            for frame in _readable(frames) if damage else frames:
                if (boxes := places.get((frame.index, frame.time))) is not None:  # it was searched
                    writer.write(blur_boxes(frame.image, boxes, **options.manner), frame.time)
                self.progress.advance(task)
        self.progress.remove_task(task)
        if damage:
            self._say(f"wrote {path}: {len(found)} frames")
            raise damage
        return path, f"{len(found)} frames"

    def print_summary(self, left_out: str) -> None:
        """Counts on standard output, what to know on standard error."""
        print(f"{self.written} cop{'ies' if self.written != 1 else 'y'} written")
        look = "look at the copies; no detector finds every face" if self.written else ""
        there = f"already there and left as they are: {self.there}" if self.there else ""
        for note in (look, there, left_out):
            if note:
                print(f"note: {note}.", file=sys.stderr)


def likely_faces(faces: Faces) -> Faces:
    """Without close-ups that are not sure: blurred backgrounds are full of them, and real ones score high."""
    sides = (faces.boxes[:, 2:] - faces.boxes[:, :2]).max(axis=1, initial=0)
    return faces[(faces.scores >= _ALONE) | (sides <= _CLOSE_UP * min(faces.image_size))]


def _readable(frames: Iterator[Frame]) -> Iterator[Frame]:
    """Those before whatever ends a video, which was said already."""
    with suppress(ImageError):
        yield from frames
