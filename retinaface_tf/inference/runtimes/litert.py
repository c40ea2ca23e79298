"""LiteRT (TensorFlow Lite): numpy and a small interpreter, no TensorFlow."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain, islice
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
    Images of one or `each` batch are shared out among threads, each with an interpreter of its own; a
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
    _own = ("_lock", "_idle", "_busy", "_pool")

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
        self._busy: set[_Session] = set()
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
        self._check(images.shape[1:3])
        if min(len(images), self.threads) == 1:
            return _join([self._run(image, self.threads) for image in images])
        return _join(list(self._executor().map(lambda image: self._run(image, 1), images)))

    def each(self, batches: Iterable[np.ndarray]) -> Iterator[RawOutputs | DenseOutputs]:
        """As `__call__`; several batches run at once, each on a core of its own."""
        batches = iter(batches)
        first = list(islice(batches, 2))
        batches = chain(first, batches)
        if len(first) < 2 or self.threads == 1:
            yield from map(self, batches)
            return
        running: deque[Future[RawOutputs | DenseOutputs]] = deque()
        try:
            for images in batches:
                self._check(images.shape[1:3])
                running.append(self._executor().submit(self._run_in_turn, images))
                if len(running) > self.threads:
                    yield running[0].result()
                    running.popleft()
            while running:
                yield running[0].result()
                running.popleft()
        finally:  # whoever stops early waits for nothing that has not begun
            for future in running:
                future.cancel()

    def _run_in_turn(self, images: np.ndarray) -> RawOutputs | DenseOutputs:
        return _join([self._run(image, 1) for image in images])

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
            if session is None and self._kept() + _memory(height * width) > MAX_KEPT_BYTES:
                # No room for another: the one not used for longest becomes it, unless it alone is too large.
                spare = (s for s, (_, _, its) in self._idle.items() if its == threads)
                session = next((s for s in spare if _memory(s.pixels) <= MAX_KEPT_BYTES), None)
            if session is not None:
                had = self._idle.pop(session)
        if session is None:
            names = self.metadata.output_names
            session = _Session(self._content, self.path, (height, width), threads, names)
        elif had != key:
            session.resize(height, width)
        with self._lock:
            self._busy.add(session)
        try:
            yield session
        finally:
            with self._lock:
                self._busy.remove(session)
        with self._lock:
            self._idle[session] = key
            while self._kept() > MAX_KEPT_BYTES and len(self._idle) > 1:
                self._idle.popitem(last=False)

    def _kept(self) -> int:
        return sum(_memory(session.pixels) for session in (*self._idle, *self._busy))

    def _executor(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.threads, "litert")
            return self._pool


def _join(results: list[list[np.ndarray]]) -> RawOutputs | DenseOutputs:
    """The outputs of a batch, of those of its images."""
    return join_outputs([np.stack(values) for values in zip(*results)])


class _Session:
    """An interpreter with memory for one shape.

    Attributes:
        pixels: of the largest one it had.
    """

    def __init__(
        self, content: bytes, path: Path, shape: tuple[int, int], threads: int, names: list[str]
    ):
        try:
            interpreter = _interpreter(content, shape, num_threads=threads)
        except (ValueError, RuntimeError) as error:
            raise WeightsError(f"LiteRT cannot run {path}: {error}.") from error
        (image,) = interpreter.get_input_details()
        self._interpreter, self._path = interpreter, path
        self.pixels = shape[0] * shape[1]
        self._input, self._dtype = image["index"], image["dtype"]
        details = {entry["name"]: entry for entry in interpreter.get_output_details()}
        self._outputs = [details[name]["index"] for name in names]

    def resize(self, height: int, width: int) -> None:
        """Half the work of another interpreter; it keeps the memory of the largest size it had."""
        try:
            self._interpreter.resize_tensor_input(self._input, [1, height, width, 3])
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise WeightsError(f"LiteRT cannot run {self._path}: {error}.") from error
        self.pixels = max(self.pixels, height * width)

    def __call__(self, image: np.ndarray) -> list[np.ndarray]:
        self._interpreter.set_tensor(self._input, image[None].astype(self._dtype, copy=False))
        try:
            self._interpreter.invoke()
        except RuntimeError as error:  # a file that is whole, and wrong within
            raise WeightsError(f"LiteRT cannot run the network: {first_line(error)}.") from None
        return [self._interpreter.get_tensor(index)[0] for index in self._outputs]


def _memory(pixels: int) -> int:
    """About how many bytes an interpreter of an image this large takes."""
    return _SESSION_BYTES + _PIXEL_BYTES * pixels


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
