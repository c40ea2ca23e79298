"""Runtimes: whatever can turn a batch of pixels into the network's raw outputs."""

from __future__ import annotations

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


class Runtime(Protocol):
    """Runs one network.

    Attributes:
        name: "keras", "litert", "onnx", ...
        config: what was trained; its anchors and variances decode the outputs.
    """

    name: str
    config: RetinaFaceConfig

    def __call__(self, images: np.ndarray) -> RawOutputs:
        """uint8 RGB [B, H, W, 3] -> `RawOutputs`; H and W any positive size."""
        ...


def open_runtime(path: Path, name: str | None = None) -> Runtime:
    """The network in a file, ready to run.

    Args:
        path: `.weights.h5` or `.keras`.
        name: of the runtime; None takes the one that fits the file.

    Raises:
        ConfigError: no runtime has that name.
        WeightsError: the file is missing, damaged or of another kind.
    """
    name = name or "keras"
    if name == "keras":
        from retinaface_tf.inference.runtimes.keras import KerasRuntime
        from retinaface_tf.weights import load_weights

        return KerasRuntime(load_weights(path))
    raise ConfigError(f"There is no runtime {name!r}; choose keras.")
