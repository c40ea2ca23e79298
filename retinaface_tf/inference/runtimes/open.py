"""A network's file opened by the runtime that fits it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from retinaface_tf.errors import ConfigError, MissingPackage
from retinaface_tf.inference.runtimes.runtime import Runtime
from retinaface_tf.util.extras import is_installed, remedy, require
from retinaface_tf.weights.choose_file import runnable_file


def open_runtime(
    path: str | os.PathLike[str],
    name: str | None = "auto",
    *,
    threads: int | None = None,
    providers: str | Sequence[str] | None = None,
    notify: Callable[[str], None] = lambda line: None,
) -> Runtime:
    """The network in a file, ready to run.

    Args:
        path: `.weights.h5`, `.weights.npz` or `.keras`, or `.tflite` or `.onnx` as
            `retinaface-tf export` writes.
        name: see `choose_runtime`.
        threads: cores that litert, onnx and openvino use; None for all.
        providers: of onnxruntime, see `OnnxRuntime`; only for onnx.
        notify: is told of the one-time conversion of weights for what does not run them.

    Raises:
        ConfigError: no runtime has that name, it does not run such files, or an option is not its.
        MissingPackage: the runtime, or the conversion for it, is not installed.
        WeightsError: the file is missing, damaged or of another kind.
    """
    if threads is not None and threads < 1:
        raise ConfigError(f"threads={threads} must be at least 1.")
    path, name = runnable_file(path, name, notify=notify)
    if providers is not None and name != "onnx":
        raise ConfigError(
            f"Only onnxruntime takes providers: leave them out for the runtime {name!r}."
        )
    if name == "keras":
        require("train", "keras", "h5py", for_="The runtime 'keras'")
        from retinaface_tf.inference.runtimes.keras import KerasRuntime
        from retinaface_tf.weights.load import load_weights

        return KerasRuntime(load_weights(path))
    if name == "onnx":
        from retinaface_tf.inference.runtimes.onnx import OnnxRuntime

        return OnnxRuntime(path, threads=threads, providers=providers)
    if name.startswith("openvino"):
        from retinaface_tf.inference.runtimes.openvino import OpenVINORuntime

        return OpenVINORuntime(path, threads=threads, bfloat16=name == "openvino-bf16")
    if not is_installed("ai_edge_litert"):
        raise MissingPackage(
            "The runtime 'litert' needs ai-edge-litert, which is not installed: take the runtime "
            f"'onnx' ({remedy('onnx')})."
        )
    from retinaface_tf.inference.runtimes.litert import LiteRTRuntime

    return LiteRTRuntime(path, threads=threads)
