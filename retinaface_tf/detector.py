"""`RetinaFace`: pictures in, faces out."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.errors import BatchError, ConfigError, ImageError
from retinaface_tf.faces import Faces
from retinaface_tf.inference.images import read_image
from retinaface_tf.inference.postprocess import read_faces
from retinaface_tf.inference.preprocess import Prepared, Size, bucket_shape, prepare, stack_padded
from retinaface_tf.inference.runtimes import Runtime, open_runtime

# A batch never holds more pixels than this, whatever batch_size says: large pictures go in
# smaller batches, so memory stays bounded.
MAX_BATCH_PIXELS = 8_000_000
# Pictures read ahead and sorted by shape, in batches.
WINDOW_BATCHES = 4

Source = Any  # str, Path, bytes, uint8 array [H, W, 3] RGB, or PIL image


class RetinaFace:
    """Finds faces in pictures.

    Args:
        runtime: what runs the network.
        threshold: least score of a face, 0..1.
        iou: overlap above which the worse of two detections is dropped.
        size: at which pictures are searched, see `inference.preprocess.target_size`.
        max_faces: keep the best so many of a picture; None keeps all.

    The four settings are defaults that each call may override.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        threshold: float = 0.5,
        iou: float = 0.4,
        size: Size = None,
        max_faces: int | None = None,
    ):
        self.runtime = runtime
        self._defaults = {
            "threshold": threshold,
            "iou": iou,
            "size": size,
            "max_faces": max_faces,
        }
        _check_settings(self._defaults)

    @classmethod
    def from_preset(
        cls, name: str, *, runtime: str = "litert", threads: int | None = None, **settings
    ) -> RetinaFace:
        """The detector with a preset's trained weights, fetched once and cached.

        Args:
            name: see `list_presets`.
            runtime: "litert", which starts without TensorFlow (the first use ever converts the
                weights, with it), "keras" or "onnx".
            threads: cores that litert and onnx use; None for all.
            settings: as in the constructor.

        Raises:
            ConfigError: no such preset or runtime.
            WeightsError: the preset has no weights, or they are neither cached nor to be had.
        """
        from retinaface_tf.pull import resolve

        weights = resolve(name, notify=_tell)
        return cls(open_runtime(weights, runtime, threads=threads, notify=_tell), **settings)

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
            path: `.weights.h5`, `.keras`, `.tflite` or `.onnx`.
            runtime, threads: as in `from_preset`; None takes the runtime that fits the file.
            settings: as in the constructor.

        Raises:
            WeightsError: the file is missing, damaged or of another kind.
        """
        runtime = open_runtime(Path(path), runtime, threads=threads, notify=_tell)
        return cls(runtime, **settings)

    @property
    def config(self) -> RetinaFaceConfig:
        """The network's description."""
        return self.runtime.config

    def detect(
        self,
        images: Source | list[Source],
        *,
        batch_size: int = 8,
        on_error: Literal["raise", "return"] = "raise",
        **settings,
    ) -> Faces | list[Faces]:
        """All faces of a picture, or of each picture of a list.

        Args:
            images: a path, encoded bytes, an RGB uint8 array [H, W, 3] or a PIL image; or a list
                or tuple of these, of any sizes.
            batch_size: pictures given to the network at once, where their padded shapes agree.
            on_error: what to do with unreadable pictures of a list. "raise" answers all others
                first, then raises `BatchError`, which carries the answers; "return" puts the
                `ImageError` in that picture's place.
            settings: threshold, iou, size, max_faces.

        Returns:
            `Faces`, or a list of them in the order of the input.

        Raises:
            ImageError: the (single) picture cannot be read or searched.
            BatchError: pictures of a list cannot.
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
        """Answers for any number of pictures, in order, with bounded memory.

        Reads a window of pictures ahead in threads while the network runs, sorts it by shape and
        answers it in batches.

        Yields:
            `Faces`, or the `ImageError` of a picture that cannot be read or searched.
        """
        settings = self._settings(settings)
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ConfigError(f"batch_size={batch_size!r} must be a whole number, at least 1.")
        window = batch_size if batch_size == 1 else WINDOW_BATCHES * batch_size
        frame = self._frame
        with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:

            def submit(sources):
                return [pool.submit(_load, source, settings["size"], frame) for source in sources]

            sources = iter(images)
            pending = submit(islice(sources, window))
            while pending:
                loaded = [future.result() for future in pending]
                pending = submit(islice(sources, window))
                yield from self._detect_window(loaded, batch_size, settings)

    @property
    def _frame(self) -> tuple[int, int] | None:
        """The only (height, width) the runtime takes, if it is so."""
        return getattr(self.runtime, "fixed_shape", None)

    def _settings(self, overrides: dict) -> dict:
        unknown = set(overrides) - set(self._defaults)
        if unknown:
            raise ConfigError(
                f"Unknown setting {sorted(unknown)[0]!r}; there are {', '.join(self._defaults)}."
            )
        settings = {**self._defaults, **overrides}
        _check_settings(settings)
        return settings

    def _detect_window(self, loaded, batch_size, settings) -> list[Faces | ImageError]:
        results: list[Faces | ImageError | None] = [None] * len(loaded)
        buckets: dict[tuple[int, int], list[int]] = {}
        frame = self._frame
        for i, entry in enumerate(loaded):
            if isinstance(entry, ImageError):
                results[i] = entry
            else:
                shape = frame or bucket_shape(*entry.pixels.shape[:2], self.config.max_stride)
                buckets.setdefault(shape, []).append(i)
        for shape, members in buckets.items():
            step = max(1, min(batch_size, MAX_BATCH_PIXELS // (shape[0] * shape[1])))
            for start in range(0, len(members), step):
                batch = members[start : start + step]
                for i, faces in zip(
                    batch, self._detect_batch([loaded[i] for i in batch], shape, settings)
                ):
                    results[i] = faces
        return results

    def _detect_batch(
        self, prepared: list[Prepared], shape: tuple[int, int], settings: dict
    ) -> list[Faces]:
        images = stack_padded([p.pixels for p in prepared], shape, self.config.pixel_mean)
        outputs = self.runtime(images)
        return [
            read_faces(
                outputs,
                i,
                shape,
                picture,
                self.config,
                threshold=settings["threshold"],
                iou=settings["iou"],
                max_faces=settings["max_faces"],
            )
            for i, picture in enumerate(prepared)
        ]


def _tell(text: str) -> None:
    print(text, file=sys.stderr)


def _load(source: Source, size: Size, frame: tuple[int, int] | None) -> Prepared | ImageError:
    try:
        return prepare(read_image(source), size, frame)
    except ImageError as error:
        return error


def _check_settings(settings: dict) -> None:
    for name in ("threshold", "iou"):
        value = settings[name]
        if not isinstance(value, int | float | np.floating) or not 0 <= value <= 1:
            raise ConfigError(f"{name}={value!r} must be a number from 0 to 1.")
    max_faces = settings["max_faces"]
    if max_faces is not None and (not isinstance(max_faces, int) or max_faces < 1):
        raise ConfigError(f"max_faces={max_faces!r} must be a whole number, at least 1, or None.")
