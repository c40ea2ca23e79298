"""onnxruntime, on the processor or on what its execution providers reach."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
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


class OnnxRuntime(PerProcess, Runtime):
    """Runs an .onnx file that `retinaface-tf export onnx` wrote.

    May be called from several threads at once, pickled, copied and used after a fork: see
    `PerProcess`.

    Args:
        path: of the file, checked as a whole before it is parsed.
        threads: cores used; None leaves it to onnxruntime, which takes all.
        providers: what computes, the preferred one first: "cuda", "coreml", "openvino", "directml",
            "tensorrt", ... or onnxruntime's own names, in a sequence or with commas between. What they
            do not know runs on the processor. None is "cpu".

    Attributes:
        name: "onnx".
        config: the network's.
        metadata: what the file says about itself.
        providers: onnxruntime's names of what was asked for.

    Raises:
        ConfigError: a provider is not in this onnxruntime, or does not start on this machine.
        MissingPackage: onnxruntime is not installed.
        WeightsError: the file is missing, damaged, another program's, or ends in faces instead
            of raw heads.
    """

    name = "onnx"
    _own = ("_lock", "_session")

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        threads: int | None = None,
        providers: str | Sequence[str] | None = None,
    ):
        self.path, self._threads = Path(path), threads
        self.providers = _known_providers(providers or "cpu")
        self._content, self.metadata, self.dense_weights = read_network_file(path)
        self.config = self.metadata.config
        self._forget()
        self._opened()

    def _forget(self) -> None:
        self._lock, self._session = threading.Lock(), None

    def _opened(self) -> Any:
        """The session, opened at first use in a process."""
        with self._lock:
            if self._session is None:
                self._session = self._open_session()
            return self._session

    def input_shape(self, height: int, width: int) -> tuple[int, int]:
        """One of few padded ones, as litert takes them, so that both find the same faces."""
        return bucket_shape(height, width, self.config.max_stride)

    def __call__(self, images: np.ndarray) -> RawOutputs | DenseOutputs:
        """uint8 RGB [B, H, W, 3] -> `RawOutputs`."""
        feed = {"image": images.astype(np.float32)}
        return join_outputs(self._opened().run(self.metadata.output_names, feed))

    def _open_session(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what goes wrong is raised
        if self._threads:
            options.intra_op_num_threads = options.inter_op_num_threads = self._threads
        try:
            session = onnxruntime.InferenceSession(self._content, options, providers=self.providers)
        except Exception as error:
            # onnxruntime's errors share no base class of their own.
            raise WeightsError(f"onnxruntime cannot run {self.path}: {error}.") from error
        # It goes on without what it cannot start.
        lacking = [name for name in self.providers if name not in session.get_providers()]
        if lacking:
            raise ConfigError(
                f"onnxruntime cannot start {lacking[0]} on this machine: install its drivers and "
                "libraries, or leave this provider out."
            )
        return session


def _known_providers(wanted: str | Sequence[str]) -> list[str]:
    """onnxruntime's names of providers, each given as such or in short.

    Raises:
        ConfigError: this onnxruntime has not one of them.
        MissingPackage: there is no onnxruntime.
    """
    require("onnx", for_="The runtime 'onnx'")
    import onnxruntime

    there = {_short(name): name for name in onnxruntime.get_available_providers()}
    names = [n.strip() for n in (wanted.split(",") if isinstance(wanted, str) else wanted)]
    for name in names:
        if _short(name) not in there:
            raise ConfigError(
                f"This onnxruntime has no provider {name!r}, but {', '.join(there)}; other packages "
                "of it, such as onnxruntime-gpu, have others."
            )
    return list(dict.fromkeys(there[_short(name)] for name in names))


def _short(provider: str) -> str:
    name = provider.lower().removesuffix("executionprovider")
    return {"dml": "directml"}.get(name, name)
