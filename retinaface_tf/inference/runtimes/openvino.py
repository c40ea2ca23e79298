"""OpenVINO: float32, or bfloat16 where the processor computes in it."""

from __future__ import annotations

import os
import threading
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from retinaface_tf.errors import ConfigError, WeightsError
from retinaface_tf.inference.preprocess import bucket_shape
from retinaface_tf.inference.runtimes.runtime import (
    DenseOutputs,
    RawOutputs,
    Runtime,
    join_outputs,
    read_network_file,
)
from retinaface_tf.util.extras import require
from retinaface_tf.util.per_process import PerProcess
from retinaface_tf.util.process import available_cores
from retinaface_tf.weights.choose_file import computes_in_bfloat16

# A network compiled for one shape takes 0.8 of the time of one that takes any, and 0.1 s to compile: the first
# shape has its own, others after so many pixels of images (50 of 640x480). So many pixels of them are kept.
_OWN_AFTER, _KEPT = 16_000_000, 2_500_000


class OpenVINORuntime(PerProcess, Runtime):
    """Runs a .tflite or .onnx file that `retinaface-tf export` wrote.

    The answer does not depend on batch, threads or earlier shapes, to the last bit. May be called from
    several threads, which take turns, pickled, copied and used after a fork: see `PerProcess`.

    Args:
        path: of the file, checked as a whole before it is parsed.
        threads: cores used; None for all.
        bfloat16: compute in bfloat16, not in float32.

    Attributes:
        name: "openvino", or "openvino-bf16".
        config: the network's.
        metadata: what the file says about itself.
        fixed_shape: (height, width) where the file takes no other.

    Raises:
        ConfigError: the processor does not compute in bfloat16.
        MissingPackage: OpenVINO is not installed.
        WeightsError: the file is missing, damaged, another program's, ends in faces instead of raw
            heads, or has operators that OpenVINO lacks.
    """

    _own = ("_lock", "_read", "_any", "_of_shape", "_seen")

    def __init__(
        self, path: str | os.PathLike[str], *, threads: int | None = None, bfloat16: bool = False
    ):
        self.name = "openvino-bf16" if bfloat16 else "openvino"
        require("openvino", for_=f"The runtime {self.name!r}")
        if bfloat16 and not computes_in_bfloat16():
            raise ConfigError(
                "This processor does not compute in bfloat16: take the runtime 'openvino'."
            )
        self.path = Path(path).absolute()
        _, self.metadata, self.dense_weights = read_network_file(path)
        self.config = self.metadata.config
        self.fixed_shape = None if self.metadata.resizable else self.metadata.input_size
        self._options = {
            "INFERENCE_NUM_THREADS": threads or available_cores(),
            "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",
            "PERFORMANCE_HINT": "LATENCY",
            # Networks of one process would be pinned to the same cores.
            "ENABLE_CPU_PINNING": False,
            # Else it keeps 3 MiB for each shape it ever saw.
            "CPU_RUNTIME_CACHE_CAPACITY": "0",
        }
        self._forget()
        with self._lock:
            self._opened()

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._read: Any = None
        self._any: Any = None
        # By (height, width), the least recently used first.
        self._of_shape: OrderedDict[tuple[int, int], Any] = OrderedDict()
        self._seen: Counter[tuple[int, int]] = Counter()

    def input_shape(self, height: int, width: int) -> tuple[int, int]:
        """One of few padded ones, as litert takes them, so that both find the same faces."""
        return self.fixed_shape or bucket_shape(height, width, self.config.max_stride)

    def __call__(self, images: np.ndarray) -> RawOutputs | DenseOutputs:
        """uint8 RGB [B, H, W, 3] -> `RawOutputs`."""
        with self._lock:
            found = [self._run(image[None]) for image in images]
        return join_outputs([np.concatenate(values) for values in zip(*found)])

    def _run(self, image: np.ndarray) -> list[np.ndarray]:
        try:
            request = self._request(image.shape[1:3])
            request.infer(image.astype(self.metadata.input_dtype, copy=False), share_inputs=True)
        except RuntimeError as error:
            raise self._failure(error) from None
        return [request.get_tensor(name).data.copy() for name in self.metadata.output_names]

    def _request(self, shape: tuple[int, int]) -> Any:
        """What answers for a shape: a network compiled for it, or the one that takes any."""
        if shape in self._of_shape:
            self._of_shape.move_to_end(shape)
            return self._of_shape[shape]
        self._seen[shape] += shape[0] * shape[1]
        if self._of_shape and self._seen[shape] < _OWN_AFTER:
            self._any = self._any or self._compiled((-1, -1))
            return self._any
        self._of_shape[shape] = self._compiled(shape)
        while len(self._of_shape) > 1 and sum(h * w for h, w in self._of_shape) > _KEPT:
            self._seen.pop(self._of_shape.popitem(last=False)[0])
        return self._of_shape[shape]

    def _compiled(self, shape: tuple[int, int]) -> Any:
        core, model = self._opened()
        model = model.clone()
        model.reshape([1, *shape, 3])
        return core.compile_model(model, "CPU", self._options).create_infer_request()

    def _opened(self) -> Any:
        """OpenVINO and the parsed network, opened at first use in a process."""
        if self._read is None:
            import openvino

            core = openvino.Core()
            try:
                self._read = core, core.read_model(self.path)
            except RuntimeError as error:
                raise self._failure(error) from None
        return self._read

    def _failure(self, error: RuntimeError) -> WeightsError:
        reason = [line for line in str(error).splitlines() if line.strip()][-1]
        return WeightsError(f"OpenVINO cannot run {self.path}: {reason.strip().rstrip('.')}.")
