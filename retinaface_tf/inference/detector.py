"""`RetinaFace`: images in, faces out; and `Detector`, the interface of everything that finds faces."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, Protocol, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from retinaface_tf.config import (
    DEFAULT_SETTINGS,
    DetectionSettings,
    Precision,
    RetinaFaceConfig,
    RuntimeName,
    SettingsChanges,
)
from retinaface_tf.errors import BatchError, ConfigError, ImageError
from retinaface_tf.faces.faces import Faces
from retinaface_tf.images.read import ImageSource
from retinaface_tf.inference.backend import DetectionBackend, NetworkBackend
from retinaface_tf.inference.preprocess import Prepared
from retinaface_tf.inference.runtimes.open import open_runtime
from retinaface_tf.inference.runtimes.runtime import Runtime
from retinaface_tf.presets import DEFAULT_PRESET
from retinaface_tf.util.process import available_cores, to_stderr
from retinaface_tf.weights.choose_file import preset_file

if TYPE_CHECKING:
    from retinaface_tf.protocol.client import EndpointKeywords

# Images read ahead and sorted by shape: a batch for each of their sizes, at least and at most so many;
# fewer where they would take more memory.
LEAST_BATCHES, MOST_BATCHES, MAX_WINDOW_BYTES = 4, 8, 256 << 20
# Of a video: for so long a small face that is lost is looked for where it was.
RECENT_FRAMES = 5


class Detector(Protocol):
    """Finds faces in images.

    Attributes:
        settings: defaults; each call may override them by keywords.
        backend: what answers: a network in this process, a model server, ...
    """

    settings: DetectionSettings
    backend: DetectionBackend

    @property
    def config(self) -> RetinaFaceConfig | None:
        """The network's description; None where it is not known here, as of a model server."""
        return self.backend.config

    @property
    def num_vertices(self) -> int | None:
        """Vertices of each face; None where faces have none, or `config` is not known."""
        return self.config.dense.vertices if self.config and self.config.dense else None

    def stream(
        self,
        images: Iterable[ImageSource],
        *,
        batch_size: int = 8,
        **settings: Unpack[SettingsChanges],
    ) -> Iterator[Faces | ImageError]:
        """Answers for any number of images, in order, with bounded memory.

        Args:
            images: as in `detect`.
            batch_size: images given to the network at once.
            settings: threshold, iou, size, max_faces, large_faces, zoom, budget: see
                `DetectionSettings`.

        Yields:
            `Faces`, or the `ImageError` of an image that cannot be read or searched.

        Raises:
            ConfigError: a setting is unknown or out of range, or `images` is a single image.
            ServingError: the model is on a server that is away or refuses.
        """
        ...

    # A str is one image, though it is a sequence of str as well: the first overload takes it.
    @overload
    def detect(  # type: ignore[overload-overlap]
        self,
        images: ImageSource,
        *,
        batch_size: int = 8,
        on_error: Literal["raise", "return"] = "raise",
        **settings: Unpack[SettingsChanges],
    ) -> Faces: ...

    @overload
    def detect(
        self,
        images: Sequence[ImageSource],
        *,
        batch_size: int = 8,
        on_error: Literal["raise"] = "raise",
        **settings: Unpack[SettingsChanges],
    ) -> list[Faces]: ...

    @overload
    def detect(
        self,
        images: Sequence[ImageSource],
        *,
        batch_size: int = 8,
        on_error: Literal["return"],
        **settings: Unpack[SettingsChanges],
    ) -> list[Faces | ImageError]: ...

    def detect(
        self,
        images: ImageSource | Sequence[ImageSource],
        *,
        batch_size: int = 8,
        on_error: Literal["raise", "return"] = "raise",
        **settings: Unpack[SettingsChanges],
    ) -> Faces | list[Faces] | list[Faces | ImageError]:
        """All faces of an image, or of each image of a list.

        Args:
            images: a path, encoded bytes, a binary file, an RGB uint8 array [H, W, 3] or a PIL
                image (see `retinaface_tf.load_image`); or a sequence of these, of any sizes.
            batch_size: images given to the network at once, where their padded shapes agree.
            on_error: what to do with unreadable images of a list. "raise" answers all others
                first, then raises `BatchError`, which carries the answers; "return" puts the
                `ImageError` in that image's place.
            settings: threshold, iou, size, max_faces, large_faces, zoom, budget: see
                `DetectionSettings`.

        Returns:
            `Faces`, or a list of them in the order of the input.

        Raises:
            ImageError: the (single) image cannot be read or searched.
            ServingError: the model is on a server that is away or refuses.
            BatchError: images of a list cannot.
            ConfigError: a setting or `on_error` is unknown or out of range.
        """
        if on_error not in ("raise", "return"):
            raise ConfigError(f"on_error={on_error!r} must be 'raise' or 'return'.")
        check_batch_size(batch_size)
        if not isinstance(images, Sequence) or isinstance(
            images, str | bytes | bytearray | memoryview
        ):
            (result,) = self.stream([images], batch_size=1, **settings)
            if isinstance(result, ImageError):
                raise result
            return result.of_image(images)
        answers = zip(images, self.stream(images, batch_size=batch_size, **settings), strict=True)
        results = [
            answer if isinstance(answer, ImageError) else answer.of_image(source)
            for source, answer in answers
        ]
        if on_error == "raise" and any(isinstance(result, ImageError) for result in results):
            raise BatchError(results)
        return results

    def for_video(self, **settings: Unpack[SettingsChanges]) -> Callable[[ImageSource], Faces]:
        """`detect` for the frames of one video, which are given to it one after the other.

        Where the setting `zoom` is not "off", places where the last frames had small faces are looked at
        more closely in the next one too.

        Args:
            settings: as in `detect`.
        """
        return partial(self.detect, **settings)


class RetinaFace(Detector):
    """Finds faces in images by a network.

    Args:
        runtime: what runs the network; or a `DetectionBackend`, such as a model server.
        settings: defaults that each call may override.
        changes: single settings by keyword, over those: threshold, iou, size, max_faces,
            large_faces, zoom, budget; see `DetectionSettings`.

    Attributes:
        runtime: what runs the network in this process; None where a backend was given.
        window_bytes: the most that images read ahead may take.

    Raises:
        ConfigError: a setting is unknown or out of range, or `runtime` is no runtime.
    """

    def __init__(
        self,
        runtime: Runtime | DetectionBackend,
        *,
        settings: DetectionSettings = DEFAULT_SETTINGS,
        **changes: Unpack[SettingsChanges],
    ):
        self.settings = settings.replace(**changes)
        self.window_bytes = MAX_WINDOW_BYTES
        self.runtime: Runtime | None
        self.backend: DetectionBackend
        if isinstance(runtime, DetectionBackend):
            self.runtime, self.backend = None, runtime
        elif not hasattr(runtime, "config"):
            raise ConfigError(
                f"RetinaFace({runtime!r}) has nothing to run; RetinaFace.from_preset takes a preset's "
                "name, RetinaFace.from_file a file."
            )
        else:
            self.runtime, self.backend = runtime, NetworkBackend(runtime)

    @classmethod
    def from_preset(
        cls,
        name: str = DEFAULT_PRESET,
        *,
        runtime: RuntimeName = "auto",
        precision: Precision = "float32",
        threads: int | None = None,
        providers: str | Sequence[str] | None = None,
        settings: DetectionSettings = DEFAULT_SETTINGS,
        **changes: Unpack[SettingsChanges],
    ) -> RetinaFace:
        """The detector with a preset's trained weights: in this package, or fetched once and cached.

        Args:
            name: see `list_presets`.
            runtime: "litert", "onnx", "openvino" and "openvino-bf16" start without TensorFlow (weights
                that were fetched are converted on first use, with it); "keras"; "auto" takes the first of
                litert, onnx and keras that is installed, "fastest" OpenVINO where it is, in bfloat16
                where the processor has it.
            precision: "float32"; or "int8" for litert, faster, where the package has such a file.
            threads: cores that litert, onnx and openvino use; None for all.
            providers: for onnx, what computes, the preferred one first: "cuda", "coreml",
                "openvino", "directml", ... as far as the installed onnxruntime has them; None for
                the processor.
            settings, changes: as in the constructor.

        Raises:
            ConfigError: no such preset, runtime, precision, provider or setting.
            MissingPackage: the runtime, or the conversion for it, is not installed.
            WeightsError: the preset has no weights, or they are neither cached nor available.
        """
        path = preset_file(name, runtime, precision=precision, notify=to_stderr)
        return cls.from_file(
            path,
            runtime=runtime,
            threads=threads,
            providers=providers,
            settings=settings,
            **changes,
        )

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        *,
        runtime: RuntimeName = "auto",
        threads: int | None = None,
        providers: str | Sequence[str] | None = None,
        settings: DetectionSettings = DEFAULT_SETTINGS,
        **changes: Unpack[SettingsChanges],
    ) -> RetinaFace:
        """The detector with the network in a file this package wrote.

        Args:
            path: `.weights.h5`, `.weights.npz`, `.keras`, `.tflite` or `.onnx`.
            runtime, threads, providers: as in `from_preset`; "auto" is litert for a `.tflite`, onnx
                for an `.onnx`; openvino runs both.
            settings, changes: as in the constructor.

        Raises:
            ConfigError: no such runtime, provider or setting, or the runtime does not run such files.
            MissingPackage: the runtime, or the conversion for it, is not installed.
            WeightsError: the file is missing, damaged or of another kind.
        """
        opened = open_runtime(path, runtime, threads=threads, providers=providers, notify=to_stderr)
        return cls(opened, settings=settings, **changes)

    @classmethod
    def from_endpoint(
        cls,
        target: str,
        *,
        model: str = "retinaface",
        version: int | None = None,
        label: str | None = None,
        threshold: float = DetectionSettings.threshold,
        max_faces: int | None = None,
        **options: Unpack[EndpointKeywords],
    ) -> RetinaFace:
        """The detector around a model server (TF-Serving, or `retinaface-tf serve`).

        Images are sent as the files they are. Nothing is asked of the server until the first
        image.

        Args:
            target: "host:port", 8500 for gRPC or 8501 for REST where nothing else was chosen.
            model: its name on the server.
            version, label: which version; without, the newest.
            threshold: least score of a face; below the exported model's own it changes nothing.
            max_faces: keep only this many of an image, the best ones.
            options: of `protocol.client.EndpointOptions`: protocol, timeout, retries, tls, ...

        Raises:
            ConfigError: an option is unknown or out of range.
            ServingError: on first use: the server is away, or has not the model.
        """
        from retinaface_tf.inference.remote import RemoteBackend
        from retinaface_tf.protocol.client import EndpointOptions, connect

        try:
            endpoint = EndpointOptions(**options)
        except TypeError as error:
            raise ConfigError(f"{error}.") from None
        client = connect(target, model, version=version, label=label, options=endpoint)
        backend = RemoteBackend(client, max_request_bytes=endpoint.max_message_bytes // 2)
        return cls(backend, threshold=threshold, max_faces=max_faces)

    def stream(
        self,
        images: Iterable[ImageSource],
        *,
        batch_size: int = 8,
        **settings: Unpack[SettingsChanges],
    ) -> Iterator[Faces | ImageError]:
        """See `Detector.stream`.

        Reads a window of images ahead in threads while the network runs, sorts it by shape and
        answers it in batches.
        """
        chosen = self.settings.replace(**settings)
        check_batch_size(batch_size)
        window, sources = batch_size, several(images)
        with ThreadPoolExecutor(max_workers=min(4, available_cores())) as pool:

            def submit(sources: Iterable[ImageSource]) -> list[Future[Any]]:
                return [pool.submit(self.backend.prepare, source, chosen) for source in sources]

            pending = submit(islice(sources, window))
            while pending:
                prepared = [future.result() for future in pending]
                window = _window(prepared, batch_size, self.window_bytes)
                pending = submit(islice(sources, window))
                yield from self.backend.detect(prepared, batch_size, chosen)

    def for_video(self, **settings: Unpack[SettingsChanges]) -> Callable[[ImageSource], Faces]:
        """See `Detector.for_video`."""
        chosen = self.settings.replace(**settings)
        recent: deque[NDArray[np.float32]] = deque(maxlen=RECENT_FRAMES)

        def detect(frame: ImageSource) -> Faces:
            prepared = self.backend.prepare(frame, chosen)
            if isinstance(prepared, Prepared):
                prepared = prepared._replace(hints=np.concatenate([prepared.hints, *recent]))
            (faces,) = self.backend.detect([prepared], 1, chosen)
            if isinstance(faces, ImageError):
                raise faces
            recent.append(faces.boxes)
            return faces

        return detect


def _window(prepared: list[Any], batch_size: int, most_bytes: int) -> int:
    """How many images to read ahead, by the sizes and the largest of those before."""
    if batch_size == 1:
        return 1
    largest = max(getattr(one, "nbytes", 0) for one in prepared)
    sizes = {one.pixels.shape for one in prepared if isinstance(one, Prepared)}
    batches = min(max(len(sizes), LEAST_BATCHES), MOST_BATCHES)
    return max(1, min(batches * batch_size, most_bytes // max(1, largest)))


def several(images: Iterable[ImageSource]) -> Iterator[ImageSource]:
    """An iterator over images.

    Raises:
        ConfigError: it is one image, or nothing to iterate over.
    """
    single = isinstance(images, str | bytes | bytearray | memoryview) or hasattr(images, "read")
    if single or not isinstance(images, Iterable):
        kind = type(images).__name__
        raise ConfigError(
            f"stream() takes many images in an iterable, not one {kind}; see detect()."
        )
    return iter(images)


def check_batch_size(batch_size: int) -> None:
    """Raises ConfigError unless it is a whole number, at least 1."""
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ConfigError(f"batch_size={batch_size!r} must be a whole number, at least 1.")
