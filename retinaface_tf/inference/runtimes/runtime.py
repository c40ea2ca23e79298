"""What a runtime is, and the raw outputs that it gives."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.errors import WeightsError
from retinaface_tf.modelfile.dense_block import read_dense_weights
from retinaface_tf.modelfile.metadata import ModelMetadata, read_checked


class RawOutputs(NamedTuple):
    """The heads' outputs for a batch, one entry an anchor (order of `generate_anchors`).

    Attributes:
        scores: float32 [B, N], probability of a face, 0..1.
        box_deltas: float32 [B, N, 4], see `geometry.box_coding`.
        landmark_deltas: float32 [B, N, 10], of five x, y pairs.
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


def join_outputs(values: list[np.ndarray]) -> RawOutputs | DenseOutputs:
    """Scores, box deltas, landmark deltas and the feature maps of a dense branch, in this order."""
    count = len(RawOutputs._fields)
    if len(values) == count:
        return RawOutputs(*values)
    scores, box_deltas, landmark_deltas, *features = values
    return DenseOutputs(scores, box_deltas, landmark_deltas, tuple(features))


class Runtime(Protocol):
    """Runs one network.

    Attributes:
        name: "keras", "litert", "onnx", "openvino", ...
        config: what was trained; its anchors and variances decode the outputs.
        fixed_shape: (height, width) where the network takes no other; larger images are shrunk
            to fit. None where it takes any.
        dense_weights: float32 arrays of the dense head, by name; None without one.
    """

    name: str
    config: RetinaFaceConfig
    fixed_shape: tuple[int, int] | None = None
    dense_weights: dict[str, np.ndarray] | None = None

    def input_shape(self, height: int, width: int) -> tuple[int, int]:
        """The (height, width) at which an image of this size is best given to the network.

        At least the image's own: images are padded to it, and share a batch when it agrees.
        It depends on the image alone, so that an answer never depends on the batch.
        """
        ...

    def __call__(self, images: np.ndarray) -> RawOutputs | DenseOutputs:
        """uint8 RGB [B, H, W, 3] -> raw outputs; H and W any positive size."""
        ...

    def each(self, batches: Iterable[np.ndarray]) -> Iterator[RawOutputs | DenseOutputs]:
        """The outputs of batches, which may differ in size, in order."""
        return map(self, batches)


def read_network_file(
    path: str | os.PathLike[str],
) -> tuple[bytes, ModelMetadata, dict[str, np.ndarray] | None]:
    """A file that `retinaface-tf export` wrote: its bytes, what it says of itself, its dense head.

    It is checked as a whole before any interpreter, which trusts its input, sees it.

    Raises:
        WeightsError: the file is missing, damaged, another program's, or ends in faces instead
            of raw heads.
    """
    content, metadata = read_checked(path)
    if metadata.suppression:
        raise WeightsError(
            f"{path} ends in faces, made for apps that decode nothing; export it without "
            "--with-nms to use it here."
        )
    return content, metadata, read_dense_weights(content, metadata.config, Path(path))
