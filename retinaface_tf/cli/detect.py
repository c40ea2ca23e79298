"""`retinaface-tf detect` and `retinaface-tf demo`."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retinaface_tf.cli.bulk import BulkOptions
from retinaface_tf.cli.open_detector import DetectionOptions, ServerOptions
from retinaface_tf.cli.options import MaxFaces, Preset, Threads
from retinaface_tf.config import DetectionSettings
from retinaface_tf.errors import ConfigError, ImageError
from retinaface_tf.presets import DEFAULT_PRESET
from retinaface_tf.util.progress import progress_bar

if TYPE_CHECKING:
    import numpy as np

    from retinaface_tf.faces.faces import Faces
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
class OutputOptions:
    """Where the answers of `detect` go, besides a table."""

    json: Annotated[
        str | None, typer.Option(metavar="FILE|-", help="Write a JSON line for each image.")
    ] = None
    draw: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write images with the faces drawn.")
    ] = None
    crops: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write each face aligned to 112x112.")
    ] = None
    mesh: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write each face's mesh; needs a preset that makes one."),
    ] = None
    mesh_format: Annotated[str, typer.Option(help="Of those meshes: obj or ply.")] = "obj"
    frames: Annotated[
        int | None, typer.Option(help="Stop a video or webcam after this many frames.")
    ] = None


def detect(
    inputs: Annotated[
        list[str],
        typer.Argument(help="Photos, folders, videos, or webcam[:N].", metavar="INPUT..."),
    ],
    search: DetectOptions,
    output: OutputOptions,
    server: ServerOptions,
    many: BulkOptions,
) -> None:
    """Find faces in photos, folders of photos, videos or the webcam.

    Prints a table, or with --json one JSON object for each image. An image that cannot be read
    is reported and the run goes on; the exit code is then 1. With --engine also tars and Parquet
    tables of images, any number of them, into Parquet files; a run that was stopped is resumed.
    """
    from retinaface_tf.images.listing import list_images
    from retinaface_tf.images.video import is_video

    if many.engine is not None:
        refused = {
            f"--{n}": getattr(output, n) for n in ("json", "draw", "crops", "mesh", "frames")
        }
        many.run(
            inputs,
            refused | {"--server": server.server},
            preset=search.preset,
            model=search.model,
            runtime=search.runtime,
            precision=search.precision,
            threads=search.threads,
            settings=search.settings,
            augmentation=search.augmentation,
            batch_size=search.batch_size,
        )
        return
    many.require_none(inputs)
    videos = [source for source in inputs if is_video(source)]
    images = list_images([source for source in inputs if not is_video(source)])
    detector = search.open_detector(threads=search.threads, server=server)
    if output.mesh is not None:
        _require_mesh(detector, output.mesh_format, search.augmentation is not None)
    run = _Run(detector, search.batch_size, output)
    with run.open():
        run.search_images(images)
        for video in videos:
            run.search_video(video)
    if output.json != "-":
        run.summary.print()
    if run.summary.errors:
        raise typer.Exit(1)


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
    from retinaface_tf.images.listing import demo_photo

    images = images or [demo_photo()]
    search, output = DetectOptions(preset=preset), OutputOptions(draw=out)
    detect([str(path) for path in images], search, output, ServerOptions(), BulkOptions())
    for path in images:
        print(f"wrote {out / path.name}")


def _require_mesh(detector: Detector, mesh_format: str, augmented: bool) -> None:
    if mesh_format not in ("obj", "ply"):
        raise ConfigError(f"--mesh-format {mesh_format!r} must be obj or ply.")
    if augmented:
        raise ConfigError("--mesh goes with one search an image: leave out --scales and the like.")
    # Only a server knows whether its model has one.
    if detector.config is not None and detector.num_vertices is None:
        raise ConfigError(
            "--mesh needs a network with a dense branch: choose --preset mobilenet0.25-mesh."
        )


@dataclass
class _Run:
    """One call of `detect`: the detector, and where its answers go."""

    detector: Detector
    batch_size: int
    output: OutputOptions

    def open(self) -> ExitStack:
        from retinaface_tf.cli.output import JsonLines, Summary

        stack = ExitStack()
        self.summary = Summary()
        json = self.output.json
        self.lines = stack.enter_context(JsonLines(json)) if json else None
        self.progress = stack.enter_context(
            progress_bar(transient=True, disable=not sys.stderr.isatty())
        )
        return stack

    def search_images(self, images: list[tuple[Path, Path]]) -> None:
        """Each of (file, name under the output folders)."""
        from retinaface_tf.images.read import CachedImage, read_image
        from retinaface_tf.images.save import save_image

        output = self.output
        wanted = bool(output.draw or output.crops or output.mesh)
        # Images that are drawn stay decoded until then: no more than a batch of them.
        step = max(1, self.batch_size if wanted else len(images))
        task = self.progress.add_task("images", total=len(images), visible=len(images) > 1)
        for start in range(0, len(images), step):
            group = images[start : start + step]
            sources = [CachedImage(path) if wanted else path for path, _ in group]
            answers = self.detector.stream(sources, batch_size=self.batch_size)
            for (path, name), source, answer in zip(group, sources, answers):
                self.progress.advance(task)
                if self._report(str(path), answer, {}) and wanted:
                    pixels = read_image(source)
                    if output.draw:
                        save_image(output.draw / name, answer.draw(pixels))
                    self._save_faces(name, pixels, answer)

    def search_video(self, source: str) -> None:
        """Every frame of a video or webcam, up to `--frames`."""
        from retinaface_tf.images.video import VideoWriter, open_video

        name = Path(source.replace(":", "_")).with_suffix("").name
        with ExitStack() as stack:
            try:
                video = stack.enter_context(open_video(source))
                writer = None
                if self.output.draw:
                    writer = VideoWriter(self.output.draw / f"{name}.mp4", video.frame_rate)
                    # Whatever ends the video, the frames written so far are kept.
                    stack.callback(writer.close)
                total = min(filter(None, (video.frame_count, self.output.frames)), default=None)
                task = self.progress.add_task(name, total=total)
                for frame in islice(video, self.output.frames):
                    faces = self.detector.detect(frame.image)
                    self.progress.advance(task)
                    self._report(
                        source, faces, {"frame": frame.index, "time": round(frame.time, 3)}
                    )
                    if writer:
                        writer.write(faces.draw(frame.image))
                    self._save_faces(Path(f"{name}_{frame.index:06d}"), frame.image, faces)
            except ImageError as error:
                self._report(source, error, {})

    def _report(self, source: str, answer: Faces | ImageError, extra: dict) -> bool:
        """Notes an answer; whether it is one."""
        failed = isinstance(answer, ImageError)
        if failed:
            self.summary.errors += 1
            self.progress.console.print(f"error: {answer}", markup=False, soft_wrap=True)
            entry = {"image": source, "error": str(answer)}
        else:
            self.summary.add(Path(source).name, answer)
            entry = {"image": source, **extra, **answer.to_dict()}
        if self.lines:
            self.lines.write(entry)
        return not failed

    def _save_faces(self, name: Path, image: np.ndarray, faces: Faces) -> None:
        from retinaface_tf.cli.output import save_crops, save_meshes

        output = self.output
        if output.crops:
            save_crops(output.crops, name, image, faces)
        if output.mesh:
            save_meshes(output.mesh, name, image, faces, output.mesh_format)
