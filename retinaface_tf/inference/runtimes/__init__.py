"""Runtimes: whatever can turn a batch of pixels into the network's raw outputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.errors import ConfigError


class RawOutputs(NamedTuple):
    """The heads' outputs for a batch, one entry an anchor (order of `generate_anchors`).

    Attributes:
        scores: float32 [B, N], probability of a face, 0..1.
        box_deltas: float32 [B, N, 4], codes of `geometry.coding`.
        landmark_deltas: float32 [B, N, 10], codes of five x, y pairs.
    """

    scores: np.ndarray
    box_deltas: np.ndarray
    landmark_deltas: np.ndarray


class DenseOutputs(NamedTuple):
    """`RawOutputs` of a network with a dense branch.

    Attributes:
        scores, box_deltas, landmark_deltas: as there.
        features: float32 maps [B, H / stride, W / stride, C] of `config.dense_levels`, fine to
            coarse.
    """

    scores: np.ndarray
    box_deltas: np.ndarray
    landmark_deltas: np.ndarray
    features: tuple[np.ndarray, ...]


# What files call the outputs; behind them come the feature maps of a dense branch.
HEAD_OUTPUTS = RawOutputs._fields


def output_names(config: RetinaFaceConfig) -> list[str]:
    """Names of a network's raw outputs, in the order of `join_outputs`."""
    return [*HEAD_OUTPUTS, *(f"features_{level.stride}" for level in config.dense_levels)]


def join_outputs(values: list[np.ndarray]) -> RawOutputs | DenseOutputs:
    """Arrays in the order of `output_names` as the outputs they are."""
    count = len(HEAD_OUTPUTS)
    if len(values) == count:
        return RawOutputs(*values)
    return DenseOutputs(*values[:count], features=tuple(values[count:]))


class Runtime(Protocol):
    """Runs one network.

    Attributes:
        name: "keras", "litert", "onnx", ...
        config: what was trained; its anchors and variances decode the outputs.
        fixed_shape: (height, width) where the network takes no other; larger pictures are shrunk
            to fit. A runtime without this attribute takes any.
        dense_weights: float32 arrays of the dense head, by name, of a network that has one.
    """

    name: str
    config: RetinaFaceConfig

    def input_shape(self, height: int, width: int) -> tuple[int, int]:
        """The (height, width) at which a picture of this size is best given to the network.

        At least the picture's own: pictures are padded to it, and share a batch when it agrees.
        It depends on the picture alone, so that an answer never depends on the batch.
        """
        ...

    def __call__(self, images: np.ndarray) -> RawOutputs:
        """uint8 RGB [B, H, W, 3] -> `RawOutputs`; H and W any positive size."""
        ...


RUNTIMES = ("litert", "keras", "onnx")


def open_runtime(
    path: Path,
    name: str | None = None,
    *,
    threads: int | None = None,
    notify: Callable[[str], None] | None = None,
) -> Runtime:
    """The network in a file, ready to run.

    Args:
        path: `.weights.h5`, `.weights.npz` or `.keras`, or `.tflite` or `.onnx` as `retinaface-tf export` writes.
        name: one of `RUNTIMES`; None takes the one that fits the file, litert for weights.
        threads: cores that litert and onnx use; None for all.
        notify: is told of the one-time conversion of weights for litert or onnx.

    Raises:
        ConfigError: no runtime has that name, or it does not run such files.
        WeightsError: the file is missing, damaged or of another kind.
    """
    if threads is not None and threads < 1:
        raise ConfigError(f"threads={threads} must be at least 1.")
    path, name = runnable_file(path, name, notify=notify)
    if name == "keras":
        from retinaface_tf.inference.runtimes.keras import KerasRuntime
        from retinaface_tf.weights import load_weights

        return KerasRuntime(load_weights(path))
    if name == "onnx":
        from retinaface_tf.inference.runtimes.onnx import OnnxRuntime

        return OnnxRuntime(path, threads=threads)
    from retinaface_tf.inference.runtimes.litert import LiteRTRuntime

    return LiteRTRuntime(path, threads=threads)


def runnable_file(
    path: Path, name: str | None = None, *, notify: Callable[[str], None] | None = None
) -> tuple[Path, str]:
    """The file that a runtime reads, converted from weights where it must be, and the runtime's name.

    Arguments and errors as `open_runtime`.
    """
    path = Path(path)
    fitting = {".tflite": "litert", ".onnx": "onnx"}.get(path.suffix.lower())
    name = name or fitting or "litert"
    if name not in RUNTIMES:
        raise ConfigError(f"There is no runtime {name!r}; choose one of {', '.join(RUNTIMES)}.")
    if fitting not in (None, name):
        raise ConfigError(f"The runtime {name!r} does not run {path}; {fitting!r} does.")
    if name == "keras" or fitting is not None:
        return path, name
    from retinaface_tf.inference.runtimes.compiled import compile_weights

    return compile_weights(path, ".onnx" if name == "onnx" else ".tflite", notify=notify), name


def preset_weights(
    preset: str,
    name: str | None = None,
    *,
    precision: str = "float32",
    notify: Callable[[str], None] | None = None,
) -> Path:
    """The file with a preset's trained weights, to be given to `open_runtime`.

    Weights in this package have one that LiteRT runs as it is; others are pulled first.

    Args:
        preset: see `list_presets`.
        name: of the runtime that is to run them, see `open_runtime`.
        precision: "float32", or "int8" for LiteRT where the package has such a file.
        notify: is given a line on what is fetched and its licence; None for silence.

    Raises:
        ConfigError: no preset has that name, or there is no such precision of it.
        WeightsError: the preset has no weights, or they are not to be had.
    """
    from retinaface_tf.presets import PackagedSource, get_preset
    from retinaface_tf.pull import resolve
    from retinaface_tf.shipped import shipped_file

    if precision not in ("float32", "int8"):
        raise ConfigError(f"precision={precision!r} must be float32 or int8.")
    source = get_preset(preset).source
    if isinstance(source, PackagedSource):
        if name in (None, "litert"):
            return shipped_file(source, precision)
        if precision != "float32":
            raise ConfigError(f"precision={precision!r} is for the runtime litert, not {name!r}.")
    elif precision != "float32":
        raise ConfigError(
            f"Preset {preset!r} has no int8 file; make one with `retinaface-tf export tflite "
            f"--preset {preset} --quantize int8 --calibration PHOTOS` and use that."
        )
    return resolve(preset, notify=notify)


def open_preset(
    preset: str,
    name: str = "litert",
    *,
    precision: str = "float32",
    threads: int | None = None,
    notify: Callable[[str], None] | None = None,
) -> Runtime:
    """A preset's network with its trained weights, fetched if they are not here.

    Args:
        preset: see `list_presets`.
        name, threads: as in `open_runtime`.
        precision: as in `preset_weights`.
        notify: is given a line on what is fetched and its licence; None for silence.

    Raises:
        ConfigError: no preset or runtime has that name, or not that precision.
        WeightsError: the preset has no weights, or they are damaged, or not to be had.
    """
    weights = preset_weights(preset, name, precision=precision, notify=notify)
    return open_runtime(weights, name, threads=threads, notify=notify)
