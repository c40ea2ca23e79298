"""The network as exported files hold it: pixels in, scores and deltas out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retinaface_tf.config import RetinaFaceConfig
    from retinaface_tf.models import RetinaFaceNetwork


FACE_OUTPUTS = ("boxes", "scores", "landmarks", "num_faces")


def face_outputs(config: RetinaFaceConfig) -> list[str]:
    """Names of the outputs of a graph that ends in faces."""
    return [*FACE_OUTPUTS, *(["vertices"] if config.dense else [])]


def raw_heads(network: RetinaFaceNetwork) -> Callable[[Any], dict[str, Any]]:
    """A function of keras.ops from RGB pixels [B, H, W, 3] in 0..255 to the raw outputs.

    The softmax of two classes is the sigmoid of their logits' difference, and the difference of
    two 1x1 convolutions is one convolution with the kernels' difference. So nothing but
    convolutions stands before the score, and int8 has to hold one logit instead of two. Behind a
    separable head the difference is a 1x1 convolution with the kernel (-1, 1).

    Returns:
        Function giving "scores" [B, N], "box_deltas" [B, N, 4], "landmark_deltas" [B, N, 10], and
        "features_8" [B, H / 8, W / 8, C], ... of a dense branch.
    """
    import keras
    from keras import ops

    heads = _class_heads(network)
    maps = [f"features_{level.stride}" for level in network.config.dense_levels]
    features = keras.Model(
        network.inputs,
        {
            **{f"class_{i}": feature for i, (feature, *_) in enumerate(heads)},
            "box_deltas": network.output["box_deltas"],
            "landmark_deltas": network.output["landmark_deltas"],
            **{name: network.output[name] for name in maps},
        },
        name="raw_heads",
    )

    def forward(image):
        outputs = features(ops.cast(image, "float32"), training=False)
        logits = []
        for i, (_, kernel, bias) in enumerate(heads):
            kernel = kernel[..., 1::2] - kernel[..., 0::2]
            bias = bias[1::2] - bias[0::2]
            logit = ops.conv(outputs[f"class_{i}"], kernel, padding="valid") + bias
            logits.append(ops.reshape(logit, (ops.shape(logit)[0], -1)))
        logits = ops.concatenate(logits, axis=1) if len(logits) > 1 else logits[0]
        return {
            "scores": ops.sigmoid(logits),
            "box_deltas": outputs["box_deltas"],
            "landmark_deltas": outputs["landmark_deltas"],
            **{name: outputs[name] for name in maps},
        }

    return forward


def _class_heads(network: RetinaFaceNetwork) -> list[tuple[Any, Any, Any]]:
    """(feature map, kernel and bias of the 1x1 convolution that makes both logits of it), by level.

    A separable head's logits are that map, and the convolution is the identity.
    """
    import numpy as np
    from keras import layers

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
