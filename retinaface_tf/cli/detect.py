"""`retinaface-tf detect` and `retinaface-tf demo`."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from retinaface_tf.cli import bulk
from retinaface_tf.cli.augmentation import Flip, Rotations, Scales, Tiles, Vote
from retinaface_tf.cli.options import (
    BatchSize,
    Iou,
    MaxFaces,
    Model,
    Precision,
    Preset,
    Runtime,
    Size,
    Threads,
    Threshold,
)
from retinaface_tf.presets import DEFAULT_PRESET
from retinaface_tf.util.progress import progress_bar

DEFAULT_IOU = 0.4


def detect(
    inputs: Annotated[
        list[str],
        typer.Argument(help="Photos, folders, videos, or webcam[:N].", metavar="INPUT..."),
    ],
    preset: Preset = DEFAULT_PRESET,
    model: Model = None,
    runtime: Runtime = None,
    precision: Precision = "float32",
    threshold: Threshold = 0.5,
    iou: Iou = 0.4,
    size: Size = None,
    scales: Scales = None,
    flip: Flip = False,
    vote: Vote = False,
    rotations: Rotations = False,
    tiles: Tiles = None,
    large_faces: Annotated[
        bool,
        typer.Option(
            "--large-faces/--no-large-faces",
            help="Also search a small copy for close-ups, where that costs under 10 %.",
        ),
    ] = True,
    max_faces: MaxFaces = None,
    batch_size: BatchSize = 8,
    threads: Threads = None,
    json: Annotated[
        str | None, typer.Option(metavar="FILE|-", help="Write a JSON line for each image.")
    ] = None,
    draw: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write images with the faces drawn.")
    ] = None,
    crops: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write each face aligned to 112x112.")
    ] = None,
    mesh: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write each face's mesh; needs a preset that makes one."),
    ] = None,
    mesh_format: Annotated[str, typer.Option(help="Of those meshes: obj or ply.")] = "obj",
    frames: Annotated[
        int | None, typer.Option(help="Stop a video or webcam after so many frames.")
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Ask a model server instead of a network here."),
    ] = None,
    server_model: Annotated[str, typer.Option(help="The model's name there.")] = "retinaface",
    server_label: Annotated[str | None, typer.Option(help="Label of its version.")] = None,
    rest: Annotated[bool, typer.Option("--rest", help="Speak REST, not gRPC.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds a request may take.")] = 60.0,
    tls: Annotated[bool, typer.Option("--tls", help="Speak TLS.")] = False,
    tls_root: Annotated[
        Path | None, typer.Option(help="PEM file of who vouches for the server.")
    ] = None,
    header: Annotated[
        list[str] | None, typer.Option(metavar="NAME:VALUE", help="Sent with each request.")
    ] = None,
    engine: bulk.Engine = None,
    out: bulk.Out = None,
    workers: bulk.Workers = None,
    shard_size: bulk.ShardSize = None,
    retries: bulk.Retries = None,
    image_column: bulk.ImageColumn = None,
    name_column: bulk.NameColumn = None,
    ray_address: bulk.RayAddress = None,
    gpus_per_worker: bulk.GpusPerWorker = None,
) -> None:
    """Find faces in photos, folders of photos, videos or the webcam.

    Prints a table, or with --json one JSON object for each image. An image that cannot be read
    is reported and the run goes on; the exit code is then 1. With --engine also tars and Parquet
    tables of images, any number of them, into Parquet files; a run that was stopped is resumed.
    """
    from retinaface_tf.cli.augmentation import read_augmentation
    from retinaface_tf.images.read import list_images
    from retinaface_tf.images.video import is_video
    from retinaface_tf.inference.preprocess import parse_size

    size = parse_size(size)
    augmentation = read_augmentation(scales, flip, vote, rotations, tiles, size)
    search = {
        "threshold": threshold,
        "iou": iou,
        "size": size,
        "max_faces": max_faces,
        "large_faces": large_faces,
    }
    many = bulk.BulkOptions(
        engine,
        out,
        workers,
        shard_size,
        retries,
        image_column,
        name_column,
        ray_address,
        gpus_per_worker,
    )
    if engine is not None:
        refused = {"--json": json, "--draw": draw, "--crops": crops, "--mesh": mesh}
        many.run(
            inputs,
            refused | {"--frames": frames, "--server": server},
            preset=preset,
            model=model,
            runtime=runtime,
            precision=precision,
            augmentation=augmentation,
            threads=threads,
            batch_size=batch_size,
            **search,
        )
        return
    many.require_none(inputs)
    videos = [source for source in inputs if is_video(source)]
    pictures = list_images([source for source in inputs if not is_video(source)])
    remote = None
    if server is not None:
        remote = Server(server, server_model, server_label, rest, timeout, tls, tls_root, header)
    detector = open_detector(
        preset,
        model,
        runtime,
        remote,
        precision,
        threads=threads,
        **search,
    )
    if augmentation is not None:
        from retinaface_tf.inference.test_time_augmentation import AugmentedDetector

        detector = AugmentedDetector(
            detector, augmentation, threshold=threshold, iou=iou, max_faces=max_faces
        )
    if mesh is not None:
        _require_mesh(detector, augmentation, mesh_format)
    run = _Run(detector, batch_size, draw, crops, mesh, mesh_format)
    with run.open(json):
        run.search_images(pictures)
        for video in videos:
            run.search_video(video, frames)
    if json != "-":
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
    from retinaface_tf.errors import RetinaFaceError

    if not images:
        try:
            import skimage
        except ImportError as error:
            raise RetinaFaceError(
                "The demo's own photo comes with scikit-image, which is not installed: name a "
                "photo of yours, or pip install 'retinaface-tf[demo]'."
            ) from error
        images = [Path(skimage.__file__).parent / "data" / "astronaut.png"]
    detect([str(path) for path in images], preset=preset, draw=out)
    for path in images:
        print(f"wrote {out / path.name}")


def _require_mesh(detector, augmentation, mesh_format: str) -> None:
    from retinaface_tf.errors import ConfigError
    from retinaface_tf.inference.backend import NetworkBackend

    if mesh_format not in ("obj", "ply"):
        raise ConfigError(f"--mesh-format {mesh_format!r} must be obj or ply.")
    if augmentation is not None:
        raise ConfigError("--mesh goes with one search an image: leave out --scales and the like.")
    if isinstance(detector._backend, NetworkBackend) and detector.config.dense is None:
        raise ConfigError(
            "--mesh needs a network with a dense branch: choose --preset mobilenet0.25-mesh."
        )


def open_detector(
    preset: str,
    model: Path | None,
    runtime: str | None,
    server: Server | None = None,
    precision: str = "float32",
    threads: int | None = None,
    **settings,
):
    from retinaface_tf.errors import ConfigError
    from retinaface_tf.inference.detector import RetinaFace

    if precision != "float32" and (server is not None or model is not None):
        raise ConfigError(
            "--precision chooses a preset's file; --model and --server have their own."
        )
    if server is not None:
        return _open_server(server, model, runtime, settings)
    if model is not None:
        return RetinaFace.from_file(model, runtime=runtime, threads=threads, **settings)
    return RetinaFace.from_preset(
        preset, runtime=runtime or "litert", precision=precision, threads=threads, **settings
    )


def _open_server(server: Server, model: Path | None, runtime: str | None, settings: dict):
    from retinaface_tf.errors import ConfigError
    from retinaface_tf.inference.detector import RetinaFace

    if model is not None or runtime is not None:
        raise ConfigError("--server takes the place of --model and --runtime; leave them out.")
    if settings["size"] is not None or settings["iou"] != DEFAULT_IOU:
        raise ConfigError(
            "--size and --iou are fixed in the model on the server; choose them in "
            "`retinaface-tf export savedmodel`."
        )
    if not settings["large_faces"]:
        raise ConfigError("--no-large-faces is for networks here; the server searches once.")
    headers = []
    for header in server.headers or []:
        name, colon, value = header.partition(":")
        if not colon:
            raise ConfigError(f"--header {header!r} is not understood: give NAME:VALUE.")
        headers.append((name.strip().lower(), value.strip()))
    return RetinaFace.from_endpoint(
        server.target,
        model=server.model,
        label=server.label,
        protocol="rest" if server.rest else "grpc",
        timeout=server.timeout,
        tls=server.tls or server.certificates is not None,
        root_certificates=server.certificates,
        metadata=tuple(headers),
        threshold=settings["threshold"],
        max_faces=settings["max_faces"],
    )


@dataclass(frozen=True)
class Server:
    """Where faces are found instead of here, and how it is reached."""

    target: str
    model: str
    label: str | None
    rest: bool
    timeout: float
    tls: bool
    certificates: Path | None
    headers: list[str] | None


@dataclass
class _Run:
    """One call of `detect`: what is searched, and where the answers go."""

    detector: Any
    batch_size: int
    draw: Path | None
    crops: Path | None
    mesh: Path | None = None
    mesh_format: str = "obj"

    def open(self, json: str | None) -> ExitStack:
        from retinaface_tf.cli.output import JsonLines, Summary

        stack = ExitStack()
        self.summary = Summary()
        self.lines = stack.enter_context(JsonLines(json)) if json else None
        self.progress = stack.enter_context(
            progress_bar(transient=True, disable=not sys.stderr.isatty())
        )
        return stack

    def search_images(self, pictures: list[tuple[Path, Path]]) -> None:
        """Each of (file, name under the output folders)."""
        from retinaface_tf.images.read import read_image

        paths = [path for path, _ in pictures]
        answers = self.detector.stream(paths, batch_size=self.batch_size)
        task = self.progress.add_task("images", total=len(paths), visible=len(paths) > 1)
        for (path, name), answer in zip(pictures, answers):
            self.progress.advance(task)
            wanted = self.draw or self.crops or self.mesh
            if self._report(str(path), answer, {}) and wanted:
                self._save(name, read_image(path), answer)

    def search_video(self, source: str, limit: int | None) -> None:
        """Every frame of a video or webcam, up to a limit."""
        from retinaface_tf.errors import ImageError
        from retinaface_tf.images.video import VideoWriter, open_video

        name = Path(source.replace(":", "_")).with_suffix("").name
        with ExitStack() as stack:
            try:
                video = stack.enter_context(open_video(source))
                writer = None
                if self.draw:
                    writer = VideoWriter(self.draw / f"{name}.mp4", video.frame_rate)
                    # Whatever ends the video, the frames written so far are kept.
                    stack.callback(writer.close)
                total = min(filter(None, (video.frame_count, limit)), default=None)
                task = self.progress.add_task(name, total=total)
                for frame in islice(video, limit):
                    faces = self.detector.detect(frame.image)
                    self.progress.advance(task)
                    extra = {"frame": frame.index, "time": round(frame.time, 3)}
                    self._report(source, faces, extra)
                    if writer:
                        writer.write(faces.draw(frame.image))
                    place = Path(f"{name}_{frame.index:06d}")
                    if self.crops:
                        self._save_crops(place, frame.image, faces)
                    self._save_meshes(place, frame.image, faces)
            except ImageError as error:
                self._report(source, error, {})

    def _report(self, source: str, answer, extra: dict) -> bool:
        from retinaface_tf.faces.faces import Faces

        if isinstance(answer, Faces):
            self.summary.add(Path(source).name, answer)
            entry = {"image": source, **extra, **answer.to_dict()}
        else:
            self.summary.errors += 1
            self.progress.console.print(f"error: {answer}", markup=False, soft_wrap=True)
            entry = {"image": source, "error": str(answer)}
        if self.lines:
            self.lines.write(entry)
        return isinstance(answer, Faces)

    def _save(self, name: Path, image, faces) -> None:
        from retinaface_tf.images.save import save_image

        if self.draw:
            save_image(self.draw / name, faces.draw(image))
        if self.crops:
            self._save_crops(name, image, faces)
        self._save_meshes(name, image, faces)

    def _save_meshes(self, name: Path, image, faces) -> None:
        from retinaface_tf.cli.output import save_meshes

        if self.mesh:
            save_meshes(self.mesh, name, image, faces, self.mesh_format)

    def _save_crops(self, name: Path, image, faces) -> None:
        from retinaface_tf.cli.output import save_crops

        save_crops(self.crops, name, image, faces)
