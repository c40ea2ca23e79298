"""`retinaface-tf blur`: copies of photos in which nobody can be recognised."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from retinaface_tf.cli.open_detector import DetectionOptions
from retinaface_tf.cli.options import Overwrite, Threads, Threshold
from retinaface_tf.faces.blurring import DEFAULT_MARGIN, check_blur
from retinaface_tf.faces.faces import Faces

if TYPE_CHECKING:
    from retinaface_tf.cli.detect_run import Source
    from retinaface_tf.cli.output_names import OutputNames
    from retinaface_tf.inference.detector import Detector


@dataclass(frozen=True, kw_only=True)
class BlurOptions(DetectionOptions):
    """How faces are searched and blurred. A face that is missed is worse than a false alarm."""

    threshold: Threshold = 0.2
    scales: Annotated[
        str | None, typer.Option(metavar="LIST", help="Sizes of each search, as in `detect`.")
    ] = "640,1000"
    flip: Annotated[bool, typer.Option("--flip/--no-flip", help="Search the mirror image too.")] = (
        True
    )
    threads: Threads = None
    method: Annotated[
        str, typer.Option(help="gaussian, pixelate, or solid, which leaves nothing of a face.")
    ] = "gaussian"
    shape: Annotated[str, typer.Option(help="ellipse or box.")] = "ellipse"
    margin: Annotated[
        float, typer.Option(help="Each edge of a face moves out by this share of its side.")
    ] = DEFAULT_MARGIN

    def __post_init__(self):
        check_blur(self.method, self.shape, self.margin)

    def blur(self, faces: Faces, image: np.ndarray, **changes) -> np.ndarray:
        """See `Faces.blur`, whose keywords `changes` are."""
        chosen = {"method": self.method, "shape": self.shape, "margin": self.margin}
        return faces.blur(image, **chosen | changes)


def blur(
    inputs: Annotated[
        list[str],
        typer.Argument(help="Photos, folders, or - for standard input.", metavar="INPUT..."),
    ],
    options: BlurOptions,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the copies.")],
    resume: Annotated[
        bool, typer.Option("--resume", help="Leave out what has its copy in DIR already.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Write copies of photos in which nobody can be recognised.

    Every photo is searched at several sizes and mirrored, and the least score is low: of a
    photo's faces few are missed, but none of all photos nobody can promise, so look at the copies.
    Format, JPEG quality, colour profile and EXIF stay; previews inside the file are left out. No
    original is replaced.
    """
    from retinaface_tf.cli.detect_run import Inputs
    from retinaface_tf.cli.output_names import OutputNames
    from retinaface_tf.errors import RetinaFaceError
    from retinaface_tf.util.files import require_folder
    from retinaface_tf.util.progress import progress_bar

    listed = Inputs.of(inputs)
    require_folder(out)
    detector = options.open_detector(threads=options.threads)
    names = OutputNames(listed.files, overwrite=overwrite)
    done = faces = errors = 0
    with progress_bar(transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("photos", total=len(listed.images))
        for source in listed.images:
            try:
                written = _blur_photo(source, options, detector, out, names, resume)
                if written is not None:
                    path, count = written
                    progress.console.print(
                        f"wrote {path}: {_faces(count)}", markup=False, soft_wrap=True
                    )
                    done, faces = done + 1, faces + count
            except RetinaFaceError as error:
                errors += 1
                progress.console.print(f"error: {error}", markup=False, soft_wrap=True)
            progress.advance(task)
    print(f"{_faces(faces)} blurred in {done} photo{'s' * (done != 1)}, by {detector.backend.name}")
    print("note: look at the copies; no detector finds every face.", file=sys.stderr)
    if listed.left_out:
        print(f"note: {listed.left_out}.", file=sys.stderr)
    if errors:
        raise typer.Exit(1)


def _faces(count: int) -> str:
    return f"{count} face{'s' * (count != 1)}"


def _blur_photo(
    source: Source,
    options: BlurOptions,
    detector: Detector,
    out: Path,
    names: OutputNames,
    resume: bool,
) -> tuple[Path, int] | None:
    """The copy that was written and its number of faces; None where it was there."""
    from retinaface_tf.errors import RetinaFaceError
    from retinaface_tf.images.rewrite import PhotoFile
    from retinaface_tf.images.save import drawing_name, end_mark, mark_in
    from retinaface_tf.util.files import write_whole

    name = drawing_name(source.name)
    if isinstance(source.given, bytes):  # standard input, of any format
        name = name.with_suffix(PhotoFile(source.given).suffix)
    path = names.claim(out / name, source.mark)
    if resume and mark_in(path) == source.mark:
        return None
    photo = PhotoFile(source.given)
    found = detector.detect(photo.frames)
    content = photo.encode([options.blur(*pair) for pair in zip(found, photo.frames)])
    write_whole(path, content + end_mark(path, source.mark), error=RetinaFaceError)
    return path, sum(map(len, found))
