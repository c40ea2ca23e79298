"""The detector that a command's options describe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from retinaface_tf.config import DEFAULT_SETTINGS, DetectionSettings
from retinaface_tf.errors import ConfigError

if TYPE_CHECKING:
    from retinaface_tf.inference.detector import Detector
    from retinaface_tf.inference.test_time_augmentation import Augmentation


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """The model server that is asked instead of a network here: `detect --server` and the like.

    Attributes:
        server: HOST:PORT.
        server_model, server_label: the model's name there, and the label of its version, if any.
        rest: REST instead of gRPC.
        timeout: seconds a request may take.
        tls, tls_root: whether to use TLS; PEM file of the authority that signed the server's
            certificate.
        header: NAME:VALUE lines sent with each request.
    """

    server: str
    server_model: str = "retinaface"
    server_label: str | None = None
    rest: bool = False
    timeout: float = 60.0
    tls: bool = False
    tls_root: Path | None = None
    header: list[str] | None = None


def open_detector(
    preset: str,
    model: Path | None = None,
    runtime: str | None = None,
    *,
    precision: str = "float32",
    threads: int | None = None,
    settings: DetectionSettings = DEFAULT_SETTINGS,
    augmentation: Augmentation | None = None,
    server: ServerOptions | None = None,
) -> Detector:
    """The network of a preset or file, or a model server, with its settings made.

    Args:
        preset: see `list_presets`; ignored where there is a model or a server.
        model: a network's file, see `RetinaFace.from_file`.
        runtime: "litert", "keras" or "onnx"; None takes the one that fits.
        precision: "float32", or "int8" for presets that have such a file.
        threads: cores that litert and onnx use; None for all.
        settings: of the detector.
        augmentation: the views of each image that are searched; None searches it once.
        server: asked instead of a network here.

    Raises:
        ConfigError: options do not go together.
        WeightsError: there is no such network, or its file is damaged.
    """
    from retinaface_tf.inference.detector import RetinaFace

    if precision != "float32" and (server is not None or model is not None):
        raise ConfigError(
            "--precision chooses a preset's file; --model and --server have their own."
        )
    if server is not None:
        if model is not None or runtime is not None:
            raise ConfigError("--server takes the place of --model and --runtime; leave them out.")
        detector = _open_server(server, settings)
    elif model is not None:
        detector = RetinaFace.from_file(model, runtime=runtime, threads=threads, settings=settings)
    else:
        detector = RetinaFace.from_preset(
            preset,
            runtime=runtime or "litert",
            precision=precision,
            threads=threads,
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
    if not settings.large_faces:
        raise ConfigError("--no-large-faces is for networks here; the server searches once.")
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
