"""Reads YuNet's ONNX file (libfacedetection.train, OpenCV Zoo) into a network of preset "yunet".

YuNet predicts from cells what we predict from anchors, so with one anchor of the stride's side a cell
the two are the same function, but for the score: YuNet's is the geometric mean of two sigmoids
(class and objectness), here it is the sigmoid of the two logits' mean, which is larger but ranks
nearly alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from retinaface_tf.config import ImageFormat
from retinaface_tf.errors import WeightsError
from retinaface_tf.weights.convert.filling import (
    Values,
    fill_network,
    folded_norm_values,
    our_kernel,
)
from retinaface_tf.weights.convert.onnx_graph import parse_graph, read_tensors

if TYPE_CHECKING:
    from retinaface_tf.models import RetinaFaceNetwork

# YuNet's heads that make each of ours, with the factor of their outputs: background's logit is
# minus half the objectness, the face's half the class.
_HEADS = {
    "class": (("obj", -0.5), ("cls", 0.5)),
    "box": (("bbox", 1.0),),
    "landmark": (("kps", 1.0),),
}


class _Convolution(NamedTuple):
    """Kernel [height, width, in, out] or, depthwise, [height, width, channels, 1], and bias."""

    kernel: np.ndarray
    bias: np.ndarray


def fill_from_yunet(
    network: RetinaFaceNetwork, content: bytes, source: str, images: ImageFormat
) -> None:
    """Fills a network of preset "yunet" from the bytes of YuNet-n's ONNX file.

    Raises:
        WeightsError: not such a file, or the network differs.
    """
    config = network.config
    if any(level.anchor_sizes != (level.stride,) for level in config.levels):
        raise WeightsError(
            f"{source} predicts from cells, as a network with one anchor a cell does; convert it "
            "with --preset yunet."
        )
    convolutions, behind = _read(content, source)

    def unit(theirs: str) -> tuple[_Convolution, _Convolution]:
        name = f"{theirs}.conv1.weight"
        if name not in behind:
            raise WeightsError(f"{source} has no convolution {name!r}; it is not YuNet-n's file.")
        return convolutions[name], convolutions[behind[name]]

    values: Values = {}
    stem = convolutions[behind[""]]
    values["stem_conv", "kernel"] = stem.kernel
    values |= folded_norm_values(network, "stem", stem.bias)
    for ours, theirs in _units(config).items():
        pointwise, depthwise = unit(theirs)
        values[f"{ours}_pointwise", "kernel"] = pointwise.kernel
        values[f"{ours}_pointwise", "bias"] = pointwise.bias
        values[f"{ours}_conv", "kernel"] = depthwise.kernel
        values |= folded_norm_values(network, ours, depthwise.bias)
    for number, level in enumerate(config.levels):
        for ours, parts in _HEADS.items():
            pairs = [unit(f"bbox_head.multi_level_{name}.{number}") for name, _ in parts]
            factors, shifts = _recode(ours, config)
            factors *= np.repeat([factor for _, factor in parts], len(factors) // len(parts))
            (kernels, biases), (spreads, offsets) = (zip(*unit) for unit in zip(*pairs))
            name = f"p{level.index}_{ours}"
            values[name, "kernel"] = np.concatenate(kernels, axis=3)
            values[name, "bias"] = np.concatenate(biases)
            values[f"{name}_spread", "kernel"] = np.concatenate(spreads, axis=2) * factors[:, None]
            values[f"{name}_spread", "bias"] = np.concatenate(offsets) * factors + shifts
    fill_network(network, values, source, images=images)


def _units(config) -> dict[str, str]:
    """YuNet's name of each separable unit, by ours."""
    units = {"block1_2": "backbone.model0.conv2"}
    for stage in range(2, 7):
        for number in (1, 2):
            units[f"block{stage}_{number}"] = f"backbone.model{stage - 1}.conv{number}"
    for number, level in enumerate(config.levels):
        units[f"p{level.index}_merge"] = f"neck.lateral_convs.{number}"
        units[f"p{level.index}_context"] = f"bbox_head.multi_level_share_convs.{number}.0"
    return units


def _recode(head: str, config) -> tuple[np.ndarray, np.ndarray]:
    """Factors and shifts from offsets in strides from a cell's corner to an anchor's deltas.

    The anchor's side is the stride and its centre the cell's: half a stride further.
    """
    center, size = 1 / config.center_variance, 1 / config.size_variance
    if head == "class":
        return np.ones(2), np.zeros(2)
    if head == "box":
        return np.array([center, center, size, size]), np.array([-center / 2, -center / 2, 0, 0])
    return np.full(10, center), np.full(10, -center / 2)


def _read(content: bytes, source: str) -> tuple[dict[str, _Convolution], dict[str, str]]:
    """Convolutions by their kernel's name, and the name of the kernel that reads each one's output.

    The kernel that reads the image stands under "".
    """
    graph = parse_graph(content, source)
    tensors = read_tensors(graph, source)
    inputs = {value.name for value in graph.input}
    convolutions, made_by, behind = {}, dict.fromkeys(inputs, ""), {}
    for node in graph.node:
        if node.op_type != "Conv":
            continue
        try:
            kernel, bias = (tensors[name] for name in node.input[1:])
            if kernel.ndim != 4:
                raise ValueError
        except (KeyError, ValueError):
            raise WeightsError(
                f"{source} does not hold kernel and bias of a convolution; it is not YuNet-n's file."
            ) from None
        convolutions[node.input[1]] = _Convolution(our_kernel(kernel), bias)
        if node.input[0] in made_by:
            behind[made_by[node.input[0]]] = node.input[1]
        made_by[node.output[0]] = node.input[1]
    if "" not in behind:
        raise WeightsError(f"{source} has no convolution that reads the image.")
    return convolutions, behind
