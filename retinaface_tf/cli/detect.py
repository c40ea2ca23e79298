"""`retinaface-tf detect` and `retinaface-tf demo`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retinaface_tf.cli.bulk import BulkOptions
from retinaface_tf.cli.face_choice import FaceChoice
from retinaface_tf.cli.open_detector import DetectionOptions, ServerOptions
from retinaface_tf.cli.options import AllowPrivate, MaxFaces, Preset, Threads
from retinaface_tf.cli.video_options import VideoOptions
from retinaface_tf.config import DetectionSettings
from retinaface_tf.errors import ConfigError, ServingError
from retinaface_tf.presets import DEFAULT_PRESET
from retinaface_tf.util.files import require_folder, require_free

if TYPE_CHECKING:
    from retinaface_tf.inference.detector import Detector


@dataclass(frozen=True, kw_only=True)
class DetectOptions(DetectionOptions):
    """Which network searches, and how."""

    large_faces: Annotated[
        bool,
        typer.Option(
            "--large-faces/--no-large-faces",
            help="Also search a small copy for close-ups, where that costs under 10 %.",
        ),
    ] = True
    max_faces: MaxFaces = None
    threads: Threads = None

    @property
    def settings(self) -> DetectionSettings:
        """The detector's settings."""
        return super().settings.replace(max_faces=self.max_faces, large_faces=self.large_faces)


@dataclass(frozen=True, kw_only=True)
class OutputOptions(FaceChoice):
    """Where the answers of `detect` go, besides a table, and which of an image's faces."""

    json: Annotated[
        str | None, typer.Option(metavar="FILE|-", help="Write a JSON line for each image.")
    ] = None
    draw: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write images with the faces drawn.")
    ] = None
    crops: Annotated[Path | None, typer.Option(metavar="DIR", help="Write each face.")] = None
    crop_kind: Annotated[
        str,
        typer.Option(
            metavar="aligned|ffhq|square|box",
            help="How faces are cut out: by their points, for embedders (aligned) or portrait networks (ffhq), or by their box.",
        ),
    ] = "aligned"
    crop_size: Annotated[
        str | None,
        typer.Option(
            metavar="SIDE|WIDTHxHEIGHT",
            help="Pixels of a crop; without it 112 for aligned, 512 for ffhq, else as in the image.",
        ),
    ] = None
    crop_margin: Annotated[
        float, typer.Option(help="Margin on each side of a crop, as a share of the face: 0.4.")
    ] = 0.0
    mesh: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write each face's mesh; needs a preset that makes one."),
    ] = None
    mesh_format: Annotated[str, typer.Option(help="Format of the meshes: obj or ply.")] = "obj"
    coco: Annotated[
        Path | None,
        typer.Option(metavar="FILE|-", help="Write COCO's JSON: boxes, five keypoints, scores."),
    ] = None
    yolo: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write YOLO's text file of each image: boxes and points."),
    ] = None
    labelme: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write LabelMe's JSON of each image.")
    ] = None
    voc: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write Pascal VOC's XML of each image: boxes."),
    ] = None
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE|-", help="Write a table with a row for each face.")
    ] = None
    parquet: Annotated[
        Path | None,
        typer.Option(metavar="FILE|-", help="Write a Parquet table with a row for each image."),
    ] = None
    frames: Annotated[
        int | None, typer.Option(help="Stop a video or webcam after this many frames.")
    ] = None
    every: Annotated[
        bool, typer.Option("--all", help="List all faces in the table, not the first 40.")
    ] = False
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Continue after the lines that --json FILE already has."),
    ] = False
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace existing results; never a file that is read."),
    ] = False

    def __post_init__(self):
        super().__post_init__()
        if self.mesh_format not in ("obj", "ply"):
            raise ConfigError(f"--mesh-format {self.mesh_format!r} must be obj or ply.")
        if sum(str(place) == "-" for place in self._streams) > 1:
            raise ConfigError("Standard output takes one of --json, --coco, --csv and --parquet.")
        _ = self.crop_options  # refuses what cannot be
        if self.frames is not None and self.frames < 1:
            raise ConfigError(f"--frames {self.frames} must be at least 1.")
        if self.resume and self.overwrite:
            raise ConfigError("--resume keeps what is there, --overwrite does not: give one.")
        if self.resume and self.json in (None, "-"):
            raise ConfigError("--resume needs --json FILE, whose lines record what is done.")

    @property
    def _streams(self) -> tuple[str | Path | None, ...]:
        return self.json, self.coco, self.csv, self.parquet

    @property
    def prints(self) -> bool:
        """Whether answers go to standard output, in place of the table."""
        return any(str(place) == "-" for place in self._streams)

    @property
    def crop_options(self) -> tuple[str, int | tuple[int, int] | None, float]:
        """Kind, size and margin of crops.

        Raises:
            ConfigError: one is unknown or out of range.
        """
        from retinaface_tf.faces.crops import check_crops

        size = _crop_size(self.crop_size)
        check_crops(self.crop_kind, size, self.crop_margin)
        return self.crop_kind, size, self.crop_margin

    @property
    def folders(self) -> list[Path]:
        """Those that files are written to."""
        return [path for path in (self.draw, self.crops, self.mesh) if path is not None]


def _crop_size(text: str | None) -> int | tuple[int, int] | None:
    if text is None:
        return None
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isascii() and side.isdigit() for side in sides):
        raise ConfigError(f"--crop-size {text!r} must be a number of pixels or WIDTHxHEIGHT.")
    return int(sides[0]) if len(sides) == 1 else (int(sides[1]), int(sides[0]))


def detect(
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Photos, folders, videos, http(s):// and rtsp:// addresses, webcam[:N], or - for standard "
            "input.",
            metavar="INPUT",
        ),
    ],
    search: DetectOptions,
    output: OutputOptions,
    videos: VideoOptions,
    server: ServerOptions,
    many: BulkOptions,
    allow_private: AllowPrivate = False,
) -> None:
    """Find faces in photos, folders of photos, videos or the webcam.

    Prints a table, or with --json - one JSON object for each image. An image that cannot be read
    is reported and the run goes on; the exit code is then 1. No file that is there is replaced,
    but for drawings and crops of the same source. With --engine also tars and Parquet tables of
    images, any number of them, into Parquet files; a run that was stopped is resumed.
    """
    if many.engine is not None:
        plain = OutputOptions(every=output.every)
        refused = {
            f"--{field.name.replace('_', '-')}": getattr(output, field.name)
            for field in fields(output)
            if getattr(output, field.name) != getattr(plain, field.name)
        }
        many.run(
            inputs,
            refused | {"--server": server.server},
            preset=search.preset,
            model=search.model,
            runtime=search.runtime,
            precision=search.precision,
            threads=search.threads,
            providers=search.providers,
            settings=search.settings,
            augmentation=search.augmentation,
            batch_size=search.batch_size,
        )
        return
    many.require_none(inputs)
    detect_and_write(inputs, search, output, server, videos, allow_private=allow_private)


def detect_and_write(
    inputs: list[str],
    search: DetectOptions,
    output: OutputOptions,
    server: ServerOptions,
    videos: VideoOptions,
    *,
    allow_private: bool = False,
) -> list[Path]:
    """Searches images and videos in this process; the drawings that were written.

    Raises:
        typer.Exit: an image could not be read, or an output not be written.
    """
    from retinaface_tf.cli.detect_run import DetectRun, Inputs

    sources = Inputs.of(inputs, allow_private=allow_private)
    for folder in (*output.folders, *filter(None, [videos.best])):
        require_folder(folder)
    if videos.tracks:
        require_free(videos.tracks, sources.files, overwrite=output.overwrite)
    if videos.tracking and output.resume:
        raise ConfigError("A face is followed in one run: leave out --resume, or --track.")
    detector = search.open_detector(threads=search.threads, server=server)
    if output.mesh is not None:
        _require_mesh(detector, search.augmentation is not None)
    run = DetectRun(detector, search.batch_size, output, sources, videos)
    try:
        with run:
            run.search_images()
            run.search_videos()
            run.write_labels()
    except ServingError:
        run.print_left()
        raise
    if not output.prints:
        run.summary.print(detector.backend.name)
    run.print_notes()
    if run.summary.errors:
        raise typer.Exit(1)
    return run.drawn


def demo(
    images: Annotated[
        list[Path] | None, typer.Argument(help="Photos; without any, a portrait by NASA.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the images with faces drawn.")] = Path(
        "faces"
    ),
    preset: Preset = DEFAULT_PRESET,
) -> None:
    """Find the faces of a photo, print them and write the image with the faces drawn."""
    from retinaface_tf.sources.demo_photo import demo_photo
    from retinaface_tf.util.process import to_stderr

    sources = [str(path) for path in images or [demo_photo(to_stderr)]]
    search, output = DetectOptions(preset=preset), OutputOptions(draw=out)
    for path in detect_and_write(sources, search, output, ServerOptions(), VideoOptions()):
        print(f"wrote {path}")


def _require_mesh(detector: Detector, augmented: bool) -> None:
    if augmented:
        raise ConfigError("--mesh needs one search per image: leave out --scales and the like.")
    # Only a server knows whether its model has one.
    if detector.config is not None and detector.num_vertices is None:
        raise ConfigError(
            "--mesh needs a network with a dense branch: choose --preset mobilenet0.25-mesh."
        )
