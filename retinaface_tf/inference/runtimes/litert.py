"""LiteRT (TensorFlow Lite): numpy and a small interpreter, no TensorFlow."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from retinaface_tf.errors import ImageError, WeightsError, first_line
from retinaface_tf.inference.preprocess import bucket_shape
from retinaface_tf.inference.runtimes.runtime import (
    DenseOutputs,
    RawOutputs,
    Runtime,
    join_outputs,
    read_network_file,
)
from retinaface_tf.modelfile.shapes import with_shapes
from retinaface_tf.util.per_process import PerProcess
from retinaface_tf.util.process import available_cores

# Idle interpreters are kept for shapes seen before, up to this much memory together. One takes about
# 2 MiB and 67 to 84 bytes a pixel of input (seen with `lite` and `mobilenet0.25`).
MAX_KEPT_BYTES = 192 << 20
_SESSION_BYTES, _PIXEL_BYTES = 2 << 20, 90


class LiteRTRuntime(PerProcess, Runtime):
    """Runs a .tflite file that `retinaface-tf export` wrote.

    One interpreter serves one shape of input and is kept for the next image of that shape.
    Images of a batch are shared out among threads, each with an interpreter of its own; a
    single image gets all threads for itself. May be called from several threads at once, pickled,
    copied and used after a fork: see `PerProcess`.

    Args:
        path: of the file. It is checked as a whole before the interpreter, which trusts its
            input, sees it.
        threads: the most it uses; None takes one for each core.

    Attributes:
        name: "litert".
        config: the network's.
        metadata: what the file says about itself.
        fixed_shape: (height, width) where the file takes no other.

    Raises:
        WeightsError: the file is missing, damaged, another program's, or ends in faces instead
            of raw heads.
    """

    name = "litert"
    _own = ("_lock", "_idle", "_pool")

    def __init__(self, path: str | os.PathLike[str], *, threads: int | None = None):
        self.path = Path(path)
        self._content, self.metadata, self.dense_weights = read_network_file(path)
        self.config = self.metadata.config
        self.threads = threads or available_cores()
        self.fixed_shape = None if self.metadata.resizable else self.metadata.input_size
        if self.fixed_shape is None:
            self._content = _small_at_first(self._content, 2 * self.config.max_stride, self.path)
        self._forget()

    def _forget(self) -> None:
        self._lock = threading.Lock()
        # Idle interpreters and their (height, width, threads), least recently used first.
        self._idle: OrderedDict[_Session, tuple[int, int, int]] = OrderedDict()
        self._pool: ThreadPoolExecutor | None = None

    def input_shape(self, height: int, width: int) -> tuple[int, int]:
        """The file's own shape where it takes no other, else one of few padded ones."""
        return self.fixed_shape or bucket_shape(height, width, self.config.max_stride)

    def __call__(self, images: np.ndarray) -> RawOutputs | DenseOutputs:
        """uint8 RGB [B, H, W, 3] -> `RawOutputs`.

        Raises:
            ImageError: H or W is not a multiple of the coarsest stride, or not the file's own
                where that is fixed.
        """
        shape = images.shape[1:3]
        self._check(shape)
        workers = min(len(images), self.threads)
        if workers == 1:
            results = [self._run(image, self.threads) for image in images]
        else:
            results = list(self._executor().map(lambda image: self._run(image, 1), images))
        return join_outputs([np.stack(values) for values in zip(*results)])

    def _check(self, shape: tuple[int, int]) -> None:
        if self.fixed_shape is not None:
            if tuple(shape) != tuple(self.fixed_shape):
                height, width = self.fixed_shape
                raise ImageError(
                    f"{self.path} takes images of {width}x{height} pixels only, not "
                    f"{shape[1]}x{shape[0]}; export it at sides that are multiples of "
                    f"{self.config.max_stride} for any size."
                )
        elif shape[0] % self.config.max_stride or shape[1] % self.config.max_stride:
            raise ImageError(
                f"An image of {shape[1]}x{shape[0]} pixels must be padded to multiples of "
                f"{self.config.max_stride} for {self.path}."
            )

    def _run(self, image: np.ndarray, threads: int) -> list[np.ndarray]:
        height, width = image.shape[:2]
        with self._session(height, width, threads) as session:
            return session(image)

    @contextmanager
    def _session(self, height: int, width: int, threads: int) -> Iterator[_Session]:
        key = (height, width, threads)
        with self._lock:
            # The one used last is the likeliest to be in the processor's cache.
            session = next((s for s in reversed(self._idle) if self._idle[s] == key), None)
            if session is not None:
                del self._idle[session]
        if session is None:
            names = self.metadata.output_names
            session = _Session(self._content, self.path, (height, width), threads, names)
        yield session
        with self._lock:
            self._idle[session] = key
            kept = sum(_memory(*shape) for shape in self._idle.values())
            while kept > MAX_KEPT_BYTES and len(self._idle) > 1:
                _, shape = self._idle.popitem(last=False)
                kept -= _memory(*shape)

    def _executor(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.threads, "litert")
            return self._pool


class _Session:
    """An interpreter with memory for one shape."""

    def __init__(
        self, content: bytes, path: Path, shape: tuple[int, int], threads: int, names: list[str]
    ):
        try:
            interpreter = _interpreter(content, shape, num_threads=threads)
        except (ValueError, RuntimeError) as error:
            raise WeightsError(f"LiteRT cannot run {path}: {error}.") from error
        (image,) = interpreter.get_input_details()
        self._interpreter = interpreter
        self._input, self._dtype = image["index"], image["dtype"]
        details = {entry["name"]: entry for entry in interpreter.get_output_details()}
        self._outputs = [details[name]["index"] for name in names]

    def __call__(self, image: np.ndarray) -> list[np.ndarray]:
        self._interpreter.set_tensor(self._input, image[None].astype(self._dtype, copy=False))
        try:
            self._interpreter.invoke()
        except RuntimeError as error:  # a file that is whole, and wrong within
            raise WeightsError(f"LiteRT cannot run the network: {first_line(error)}.") from None
        return [self._interpreter.get_tensor(index)[0] for index in self._outputs]


def _memory(height: int, width: int, threads: int) -> int:
    """About how many bytes an interpreter of this shape takes."""
    return _SESSION_BYTES + _PIXEL_BYTES * height * width


def _small_at_first(content: bytes, side: int, path: Path) -> bytes:
    """The file with an input of side x side; an interpreter keeps what it took at first."""
    from ai_edge_litert.interpreter import OpResolverType

    try:
        # Without XNNPACK, which would take that memory, and would hide the tensors between.
        interpreter = _interpreter(
            content,
            (side, side),
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
    except (ValueError, RuntimeError) as error:
        raise WeightsError(f"LiteRT cannot run {path}: {error}.") from error
    shapes = {d["index"]: d["shape"].tolist() for d in interpreter.get_tensor_details()}
    return with_shapes(content, shapes)


def _interpreter(content: bytes, shape: tuple[int, int], **options: Any) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, **options)
    (image,) = interpreter.get_input_details()
    if tuple(image["shape"][1:3]) != tuple(shape):
        interpreter.resize_tensor_input(image["index"], [1, *shape, 3], strict=False)
    interpreter.allocate_tensors()
    return interpreter
