"""`RetinaFace`: images in, faces out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.errors import BatchError, ConfigError, ImageError
from retinaface_tf.faces.faces import Faces
from retinaface_tf.inference.backend import DetectionBackend, NetworkBackend
from retinaface_tf.inference.preprocess import Size
from retinaface_tf.inference.runtimes.open import open_runtime
from retinaface_tf.inference.runtimes.runtime import Runtime
from retinaface_tf.presets import DEFAULT_PRESET
from retinaface_tf.util.process import to_stderr
from retinaface_tf.weights.files import preset_file

# Images read ahead and sorted by shape, in batches.
WINDOW_BATCHES = 4

Source = Any  # str, Path, bytes, uint8 array [H, W, 3] RGB, or PIL image


class RetinaFace:
    """Finds faces in images.

    Args:
        runtime: what runs the network; or a `DetectionBackend`, such as a model server.
        threshold: least score of a face, 0..1.
        iou: overlap above which the worse of two detections is dropped.
        size: at which images are searched, see `inference.preprocess.target_size`.
        max_faces: keep the best so many of an image; None keeps all.
        large_faces: also search a copy a quarter as wide where that costs under 10 %, for close-ups
            beyond the network's largest anchor; a model server decides for itself.

    These settings are defaults that each call may override.
    """

    def __init__(
        self,
        runtime: Runtime | DetectionBackend,
        *,
        threshold: float = 0.5,
        iou: float = 0.4,
        size: Size = None,
        max_faces: int | None = None,
        large_faces: bool = True,
    ):
        self.runtime = runtime
        self._backend = (
            runtime if isinstance(runtime, DetectionBackend) else NetworkBackend(runtime)
        )
        self._defaults = {
            "threshold": threshold,
            "iou": iou,
            "size": size,
            "max_faces": max_faces,
            "large_faces": large_faces,
        }
        check_settings(self._defaults)

    @classmethod
    def from_preset(
        cls,
        name: str = DEFAULT_PRESET,
        *,
        runtime: str = "litert",
        precision: str = "float32",
        threads: int | None = None,
        **settings,
    ) -> RetinaFace:
        """The detector with a preset's trained weights: in this package, or fetched once and cached.

        Args:
            name: see `list_presets`.
            runtime: "litert", which starts without TensorFlow (weights that were fetched are
                converted on first use, with it), "keras" or "onnx".
            precision: "float32"; or "int8" for litert, quicker, where the package has such a file.
            threads: cores that litert and onnx use; None for all.
            settings: as in the constructor.

        Raises:
            ConfigError: no such preset, runtime or precision.
            WeightsError: the preset has no weights, or they are neither cached nor to be had.
        """
        path = preset_file(name, runtime, precision=precision, notify=to_stderr)
        return cls(open_runtime(path, runtime, threads=threads, notify=to_stderr), **settings)

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        *,
        runtime: str | None = None,
        threads: int | None = None,
        **settings,
    ) -> RetinaFace:
        """The detector with the network in a file this package wrote.

        Args:
            path: `.weights.h5`, `.weights.npz`, `.keras`, `.tflite` or `.onnx`.
            runtime, threads: as in `from_preset`; None takes the runtime that fits the file.
            settings: as in the constructor.

        Raises:
            WeightsError: the file is missing, damaged or of another kind.
        """
        runtime = open_runtime(Path(path), runtime, threads=threads, notify=to_stderr)
        return cls(runtime, **settings)

    @classmethod
    def from_endpoint(
        cls,
        target: str,
        *,
        model: str = "retinaface",
        version: int | None = None,
        label: str | None = None,
        threshold: float = 0.5,
        max_faces: int | None = None,
        **options,
    ) -> RetinaFace:
        """The detector around a model server (TF-Serving, or `retinaface-tf serve`).

        Images are sent as the files they are. Nothing is asked of the server until the first
        image.

        Args:
            target: "host:port", 8500 for gRPC or 8501 for REST where nothing else was chosen.
            model: its name on the server.
            version, label: which version; without, the newest.
            threshold: least score of a face; below the exported model's own it changes nothing.
            max_faces: keep the best so many of an image.
            options: of `serving.client.EndpointOptions`: protocol, timeout, retries, tls, ...

        Raises:
            ConfigError: an option is unknown or out of range.
            ServingError: on first use: the server is away, or has not the model.
        """
        from retinaface_tf.inference.remote import RemoteBackend
        from retinaface_tf.protocol.client import EndpointOptions, connect

        try:
            options = EndpointOptions(**options)
        except TypeError as error:
            raise ConfigError(f"{error}.") from None
        client = connect(target, model, version=version, label=label, options=options)
        finder = RemoteBackend(client, max_request_bytes=options.max_message_bytes // 2)
        return cls(finder, threshold=threshold, max_faces=max_faces)

    @property
    def config(self) -> RetinaFaceConfig:
        """The network's description.

        Raises:
            ConfigError: the network is on a server, which keeps it to itself.
        """
        if not hasattr(self.runtime, "config"):
            raise ConfigError("The network is on a server; its configuration is not known here.")
        return self.runtime.config

    def detect(
        self,
        images: Source | list[Source],
        *,
        batch_size: int = 8,
        on_error: Literal["raise", "return"] = "raise",
        **settings,
    ) -> Faces | list[Faces]:
        """All faces of an image, or of each image of a list.

        Args:
            images: a path, encoded bytes, an RGB uint8 array [H, W, 3] or a PIL image; or a list
                or tuple of these, of any sizes.
            batch_size: images given to the network at once, where their padded shapes agree.
            on_error: what to do with unreadable images of a list. "raise" answers all others
                first, then raises `BatchError`, which carries the answers; "return" puts the
                `ImageError` in that image's place.
            settings: threshold, iou, size, max_faces, large_faces.

        Returns:
            `Faces`, or a list of them in the order of the input.

        Raises:
            ImageError: the (single) image cannot be read or searched.
            ServingError: the model is on a server that is away or refuses.
            BatchError: images of a list cannot.
            ConfigError: a setting is out of range.
        """
        if not isinstance(images, list | tuple):
            (result,) = self.stream([images], batch_size=1, **settings)
            if isinstance(result, ImageError):
                raise result
            return result
        results = list(self.stream(images, batch_size=batch_size, **settings))
        if on_error == "raise" and any(isinstance(result, ImageError) for result in results):
            raise BatchError(results)
        return results

    def stream(
        self, images: Iterable[Source], *, batch_size: int = 8, **settings
    ) -> Iterator[Faces | ImageError]:
        """Answers for any number of images, in order, with bounded memory.

        Reads a window of images ahead in threads while the network runs, sorts it by shape and
        answers it in batches.

        Yields:
            `Faces`, or the `ImageError` of an image that cannot be read or searched.
        """
        settings = self._settings(settings)
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ConfigError(f"batch_size={batch_size!r} must be a whole number, at least 1.")
        window = batch_size if batch_size == 1 else WINDOW_BATCHES * batch_size
        with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:

            def submit(sources):
                return [pool.submit(self._backend.load, source, settings) for source in sources]

            sources = iter(images)
            pending = submit(islice(sources, window))
            while pending:
                loaded = [future.result() for future in pending]
                pending = submit(islice(sources, window))
                yield from self._backend.find(loaded, batch_size, settings)

    def _settings(self, overrides: dict) -> dict:
        unknown = set(overrides) - set(self._defaults)
        if unknown:
            raise ConfigError(
                f"Unknown setting {sorted(unknown)[0]!r}; there are {', '.join(self._defaults)}."
            )
        settings = {**self._defaults, **overrides}
        check_settings(settings)
        return settings


def check_settings(settings: dict) -> None:
    """Looks at threshold, iou, large_faces and max_faces.

    Raises:
        ConfigError: one is out of range.
    """
    for name in ("threshold", "iou"):
        value = settings[name]
        if not isinstance(value, int | float | np.floating) or not 0 <= value <= 1:
            raise ConfigError(f"{name}={value!r} must be a number from 0 to 1.")
    if not isinstance(settings["large_faces"], bool):
        raise ConfigError(f"large_faces={settings['large_faces']!r} must be True or False.")
    max_faces = settings["max_faces"]
    if max_faces is not None and (not isinstance(max_faces, int) or max_faces < 1):
        raise ConfigError(f"max_faces={max_faces!r} must be a whole number, at least 1, or None.")
