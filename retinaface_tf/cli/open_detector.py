"""The detector that a command's options describe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retinaface_tf.cli.options import (
    BatchSize,
    Budget,
    Iou,
    Model,
    Precision,
    Preset,
    Providers,
    Runtime,
    Size,
    Threshold,
    Zoom,
)
from retinaface_tf.config import DEFAULT_SETTINGS, DetectionSettings
from retinaface_tf.errors import ConfigError
from retinaface_tf.presets import DEFAULT_PRESET

if TYPE_CHECKING:
    from retinaface_tf.inference.detector import Detector
    from retinaface_tf.inference.test_time_augmentation import Augmentation


@dataclass(frozen=True, kw_only=True)
class DetectionOptions:
    """Which network searches, and how: of `detect` and the `evaluate` commands."""

    preset: Preset = DEFAULT_PRESET
    model: Model = None
    runtime: Runtime = "auto"
    providers: Providers = None
    precision: Precision = "float32"
    threshold: Threshold = DetectionSettings.threshold
    iou: Iou = DetectionSettings.iou
    size: Size = None
    zoom: Zoom = str(DetectionSettings.zoom)
    budget: Budget = str(DetectionSettings.budget)
    scales: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Search at several sizes, each as --size takes it: 500,800,1100,1400,1700; "
            "`paper` stands for these, `default` for the size without --size.",
        ),
    ] = None
    flip: Annotated[bool, typer.Option("--flip", help="Search the mirror image too.")] = False
    vote: Annotated[
        bool, typer.Option("--vote", help="Average overlapping detections of all passes by score.")
    ] = False
    rotations: Annotated[
        bool, typer.Option("--rotations", help="Search the image turned by right angles too.")
    ] = False
    tiles: Annotated[
        int | None,
        typer.Option(
            metavar="SIDE",
            help="Search larger images in overlapping tiles of this many pixels too.",
        ),
    ] = None
    batch_size: BatchSize = 8

    @property
    def settings(self) -> DetectionSettings:
        """The detector's settings."""
        from retinaface_tf.inference.preprocess import parse_size

        return DetectionSettings(
            threshold=self.threshold,
            iou=self.iou,
            size=parse_size(self.size),
            zoom=_number(self.zoom),  # type: ignore[arg-type]  # it refuses what it does not know
            budget=_number(self.budget),
        )

    @property
    def augmentation(self) -> Augmentation | None:
        """The views of each image that are searched; None where no option asks for several."""
        from retinaface_tf.inference.preprocess import parse_size
        from retinaface_tf.inference.test_time_augmentation import PAPER_SCALES, Augmentation

        if self.scales is None and not (self.flip or self.vote or self.rotations or self.tiles):
            return None
        if self.scales is not None and self.size is not None:
            raise ConfigError("--size and --scales exclude each other; put the size into --scales.")
        scales = (parse_size(self.size),)
        if self.scales == "paper":
            scales = PAPER_SCALES
        elif self.scales is not None:
            scales = tuple(parse_size(part.strip()) for part in self.scales.split(","))
        return Augmentation(
            scales=scales,
            flip=self.flip,
            rotations=(0, 1, 2, 3) if self.rotations else (0,),
            tile=self.tiles,
            vote=self.vote,
        )

    def open_detector(self, **more) -> Detector:
        """See `open_detector`, which also takes `more`."""
        return open_detector(
            self.preset,
            self.model,
            self.runtime,
            precision=self.precision,
            providers=self.providers,
            settings=self.settings,
            augmentation=self.augmentation,
            **more,
        )


def _number(text: str) -> int | str:
    """A whole number where it is one."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """A model server that is asked instead of a network here."""

    server: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Ask a model server instead of a network here."),
    ] = None
    server_model: Annotated[str, typer.Option(help="The model's name there.")] = "retinaface"
    server_label: Annotated[str | None, typer.Option(help="Label of its version.")] = None
    rest: Annotated[bool, typer.Option("--rest", help="Use REST, not gRPC.")] = False
    timeout: Annotated[float, typer.Option(help="Seconds a request may take.")] = 60.0
    tls: Annotated[bool, typer.Option("--tls", help="Use TLS.")] = False
    tls_root: Annotated[
        Path | None,
        typer.Option(help="PEM file of the authority that signed the server's certificate."),
    ] = None
    header: Annotated[
        list[str] | None, typer.Option(metavar="NAME:VALUE", help="Sent with each request.")
    ] = None


def open_detector(
    preset: str,
    model: Path | None = None,
    runtime: str = "auto",
    *,
    precision: str = "float32",
    threads: int | None = None,
    providers: str | None = None,
    settings: DetectionSettings = DEFAULT_SETTINGS,
    augmentation: Augmentation | None = None,
    server: ServerOptions = ServerOptions(),
) -> Detector:
    """The network of a preset or file, or a model server, with its settings made.

    Args:
        preset: see `list_presets`; ignored where there is a model or a server.
        model: a network's file, see `RetinaFace.from_file`.
        runtime, threads, providers: see `RetinaFace.from_preset`.
        precision: "float32", or "int8" for presets that have such a file.
        settings: of the detector.
        augmentation: the views of each image that are searched; None searches it once.
        server: asked instead of a network here, where its `server` is given.

    Raises:
        ConfigError: options do not go together.
        WeightsError: there is no such network, or its file is damaged.
    """
    from retinaface_tf.inference.detector import RetinaFace

    if precision != "float32" and (server.server or model is not None):
        raise ConfigError(
            "--precision chooses a preset's file; --model and --server have their own."
        )
    if server.server:
        if model is not None or runtime != "auto" or providers is not None:
            raise ConfigError(
                "--server takes the place of --model, --runtime and --providers; leave them out."
            )
        detector = _open_server(server, settings)
    elif model is not None:
        detector = RetinaFace.from_file(
            model, runtime=runtime, threads=threads, providers=providers, settings=settings
        )
    else:
        detector = RetinaFace.from_preset(
            preset,
            runtime=runtime,
            precision=precision,
            threads=threads,
            providers=providers,
            settings=settings,
        )
    if augmentation is None:
        return detector
    from retinaface_tf.inference.test_time_augmentation import AugmentedDetector

    return AugmentedDetector(detector, augmentation)


def _open_server(options: ServerOptions, settings: DetectionSettings) -> Detector:
    from retinaface_tf.inference.detector import RetinaFace

    if settings.size is not None or settings.iou != DEFAULT_SETTINGS.iou:
        raise ConfigError(
            "--size and --iou are fixed in the model on the server; choose them in "
            "`retinaface-tf export savedmodel`."
        )
    if not settings.large_faces or settings.zoom not in ("auto", "off"):
        raise ConfigError(
            "--no-large-faces and --zoom are for networks here; the server searches once."
        )
    headers = []
    for header in options.header or []:
        name, colon, value = header.partition(":")
        if not colon:
            raise ConfigError(f"--header {header!r} is not understood: give NAME:VALUE.")
        headers.append((name.strip().lower(), value.strip()))
    return RetinaFace.from_endpoint(
        options.server,
        model=options.server_model,
        label=options.server_label,
        protocol="rest" if options.rest else "grpc",
        timeout=options.timeout,
        tls=options.tls or options.tls_root is not None,
        root_certificates=options.tls_root,
        metadata=tuple(headers),
        threshold=settings.threshold,
        max_faces=settings.max_faces,
    )
