"""onnxruntime, on the processor."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np

from retinaface_tf.errors import WeightsError
from retinaface_tf.inference.runtimes.runtime import (
    RawOutputs,
    Runtime,
    join_outputs,
    read_network_file,
)
from retinaface_tf.util.extras import require
from retinaface_tf.util.per_process import PerProcess


class OnnxRuntime(PerProcess, Runtime):
    """Runs an .onnx file that `retinaface-tf export onnx` wrote.

    May be called from several threads at once, pickled, copied and used after a fork: see
    `PerProcess`.

    Args:
        path: of the file, checked as a whole before it is parsed.
        threads: cores used; None leaves it to onnxruntime, which takes all.

    Attributes:
        name: "onnx".
        config: the network's.
        metadata: what the file says about itself.

    Raises:
        MissingPackage: onnxruntime is not installed.
        WeightsError: the file is missing, damaged, another program's, or ends in faces instead
            of raw heads.
    """

    name = "onnx"
    _own = ("_lock", "_session")

    def __init__(self, path: str | Path, *, threads: int | None = None):
        self.path, self._threads = Path(path), threads
        self._content, self.metadata, self.dense_weights = read_network_file(path)
        self.config = self.metadata.config
        self._forget()
        self._opened()

    def _forget(self) -> None:
        self._lock, self._session = threading.Lock(), None

    def _opened(self):
        """The session, opened at first use in a process."""
        with self._lock:
            if self._session is None:
                self._session = _open_session(self._content, self.path, self._threads)
            return self._session

    def input_shape(self, height: int, width: int) -> tuple[int, int]:
        """The image's own: onnxruntime takes any."""
        return height, width

    def __call__(self, images: np.ndarray) -> RawOutputs:
        """uint8 RGB [B, H, W, 3] -> `RawOutputs`."""
        feed = {"image": images.astype(np.float32)}
        return join_outputs(self._opened().run(self.metadata.output_names, feed))


def _open_session(content: bytes, path: Path, threads: int | None):
    require("onnx", for_="The runtime 'onnx'")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads:
        options.intra_op_num_threads = options.inter_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # onnxruntime's errors share no base class of their own.
        raise WeightsError(f"onnxruntime cannot run {path}: {error}.") from error
