"""Deformable convolutions as ONNX' operator DeformConv, which TensorFlow has no counterpart of.

They are traced as a marker that holds the operator's settings; tf2onnx hands it back and it becomes
the operator. tf2onnx writes no opset that has it, so it stands in a domain of its own until the
finished graph is raised to one.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

# TensorFlow's operator that may stand for anything; it is never run.
MARK = "PyFunc"
_DOMAIN = "retinaface_tf"


def mark(x, kernel, offsets, mask=None, *, strides, padding, dilation_rate, groups):
    """Stands for `deformable_conv2d` while the network is traced.

    Raises:
        ConfigError: "same" padding of a strided convolution depends on the size of the image,
            which the operator cannot express.
    """
    import tensorflow as tf

    from retinaface_tf.errors import ConfigError
    from retinaface_tf.layers.deformable_sampling import resolve_padding

    kh, kw, _, filters = kernel.shape
    (top, bottom), (left, right) = resolve_padding(x, (kh, kw), strides, padding, dilation_rate)
    pads = [top, left, bottom, right]
    if not all(isinstance(pad, int) for pad in pads):
        raise ConfigError(
            "A strided deformable convolution with padding 'same' has no form as DeformConv; give "
            "its padding in cells, or choose an opset below 19."
        )
    settings = {
        "strides": list(strides),
        "dilations": list(dilation_rate),
        "pads": pads,
        "group": groups,
        "offset_group": offsets.shape[-1] // (2 * kh * kw),
        "kernel_shape": [kh, kw],
    }
    tensors = [x, kernel, offsets] if mask is None else [x, kernel, offsets, mask]
    token = json.dumps(settings)
    (y,) = tf.raw_ops.PyFunc(input=tensors, token=token, Tout=[x.dtype])
    # As an operator of its own: a saved graph forgets what was known of the marker's result.
    return tf.ensure_shape(y, (None, None, None, filters))


def convert_mark(graph, node, name: str, _) -> None:
    """tf2onnx' handler of the marker: transpositions around the operator."""
    import numpy as np

    def transpose(value: str, order: list[int], **options):
        return graph.make_node("Transpose", [value], attr={"perm": order}, **options)

    def channels_first(value: str, channels: int) -> str:
        # tf2onnx moves transpositions about, by the ranks it knows.
        shapes = [[-1, channels, -1, -1]]
        return transpose(value, [0, 3, 1, 2], dtypes=[dtype], shapes=shapes).output[0]

    settings = json.loads(node.get_attr_str("token"))
    x, kernel, *rest = node.input
    kh, kw, channels, filters = graph.get_shape(kernel)
    samples = kh * kw * settings["offset_group"]
    (output,), (dtype,) = node.output, node.output_dtypes
    shape = [filters, channels, kh, kw]
    kernel = transpose(kernel, [3, 2, 0, 1], dtypes=[dtype], shapes=[shape]).output[0]
    bias = graph.make_const(f"{name}_bias", np.zeros(filters, np.float32)).output[0]
    offsets, *mask = map(channels_first, rest, (2 * samples, samples))
    x = channels_first(x, channels * settings["group"])
    graph.remove_node(node.name)
    convolution = graph.make_node(
        "DeformConv",
        [x, kernel, offsets, bias, *mask],
        attr=settings,
        domain=_DOMAIN,
        dtypes=[dtype],
        shapes=[[-1, filters, -1, -1]],
    )
    shapes = [[-1, -1, -1, filters]]
    last = {"outputs": [output], "dtypes": [dtype], "shapes": shapes}
    transpose(convolution.output[0], [0, 2, 3, 1], **last)


def opset() -> onnx.OperatorSetIdProto:
    """Of the domain that `convert_mark` writes."""
    from onnx import helper

    return helper.make_opsetid(_DOMAIN, 1)


def raise_opset(model: onnx.ModelProto, version: int) -> onnx.ModelProto:
    """The model in that opset, 19 at least, with DeformConv as one of ONNX' own operators."""
    from onnx import version_converter

    model = version_converter.convert_version(model, version)
    for node in model.graph.node:
        if node.domain == _DOMAIN:
            node.domain = ""
    kept = [entry for entry in model.opset_import if entry.domain != _DOMAIN]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    return model
