"""The network's raw outputs as every runtime, export and evaluation reads them."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from retinaface_tf.models import RetinaFaceNetwork


def dense_weights(model: RetinaFaceNetwork) -> dict[str, np.ndarray] | None:
    """The dense head's weights as float32 arrays; None where the network has none."""
    if model.dense_head is None:
        return None
    weights = model.dense_head.named_weights.items()
    return {name: np.asarray(ops.convert_to_numpy(w), np.float32) for name, w in weights}


def raw_heads(network: RetinaFaceNetwork) -> Callable[[Any], dict[str, Any]]:
    """A function of `keras.ops` from images to the raw outputs, with the network's weights of the moment.

    The softmax of two classes is the sigmoid of their logits' difference, and the difference of
    two 1x1 convolutions is one convolution with the kernels' difference. So nothing but
    convolutions stands before the score, and int8 has to hold one logit instead of two. Behind a
    separable head the difference is a 1x1 convolution with the kernel (-1, 1).

    Returns:
        Function of RGB images [B, H, W, 3] in 0..255, any number type, that gives in float32, in
        this order: "scores" [B, N], 0..1; "box_deltas" [B, N, 4]; "landmark_deltas" [B, N, 10];
        and "features_8" [B, H / 8, W / 8, C], ... of a dense branch.
    """
    heads = _class_heads(network)
    behind = ("box_deltas", "landmark_deltas", *network.config.dense_outputs)
    maps = {f"class_{number}": feature for number, (feature, *_) in enumerate(heads)}
    features = keras.Model(
        network.inputs, {**maps, **{name: network.output[name] for name in behind}}, name="heads"
    )

    def forward(images):
        outputs = features(ops.cast(images, network.compute_dtype), training=False)
        logits = []
        for number, (_, kernel, bias) in enumerate(heads):
            feature = outputs[f"class_{number}"]
            kernel, bias = (ops.cast(weight, feature.dtype) for weight in (kernel, bias))
            kernel = kernel[..., 1::2] - kernel[..., 0::2]
            logit = ops.conv(feature, kernel, padding="valid") + (bias[1::2] - bias[0::2])
            logits.append(ops.reshape(logit, (ops.shape(logit)[0], -1)))
        logits = ops.concatenate(logits, axis=1) if len(logits) > 1 else logits[0]
        scores = {"scores": ops.sigmoid(ops.cast(logits, "float32"))}
        return scores | {name: ops.cast(outputs[name], "float32") for name in behind}

    return forward


def _class_heads(network: RetinaFaceNetwork) -> list[tuple[Any, Any, Any]]:
    """(feature map, kernel and bias of the 1x1 convolution that makes both logits of it), by level.

    A separable head's logits are that map, and the convolution is the identity.
    """
    found = []
    for level in network.config.levels:
        anchors = network.get_layer(f"p{level.index}_class_anchors")
        layer, node, _ = anchors.input._keras_history
        if isinstance(layer, layers.DepthwiseConv2D):
            width = anchors.input.shape[-1]
            identity = np.eye(width, dtype="float32")[None, None]
            found.append((anchors.input, identity, np.zeros(width, "float32")))
        else:
            feature = layer._inbound_nodes[node].input_tensors[0]
            found.append((feature, layer.kernel, layer.bias))
    return found
