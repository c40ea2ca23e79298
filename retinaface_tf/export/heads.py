"""The network as exported files hold it: pixels in, scores and codes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retinaface_tf.models import RetinaFaceNetwork


def raw_heads(network: RetinaFaceNetwork) -> Callable[[Any], dict[str, Any]]:
    """A function of keras.ops from RGB pixels [B, H, W, 3] in 0..255 to the raw outputs.

    The softmax of two classes is the sigmoid of their logits' difference, and the difference of
    two 1x1 convolutions is one convolution with the kernels' difference. So nothing but
    convolutions stands before the score, and int8 has to hold one logit instead of two.

    Returns:
        Function giving "scores" [B, N], "box_deltas" [B, N, 4], "landmark_deltas" [B, N, 10].
    """
    import keras
    from keras import ops

    heads = _class_heads(network)
    features = keras.Model(
        network.inputs,
        {
            **{f"class_{i}": feature for i, (feature, _) in enumerate(heads)},
            "box_deltas": network.output["box_deltas"],
            "landmark_deltas": network.output["landmark_deltas"],
        },
        name="raw_heads",
    )

    def forward(image):
        outputs = features(ops.cast(image, "float32"), training=False)
        logits = []
        for i, (_, layer) in enumerate(heads):
            kernel = layer.kernel[..., 1::2] - layer.kernel[..., 0::2]
            bias = layer.bias[1::2] - layer.bias[0::2]
            logit = ops.conv(outputs[f"class_{i}"], kernel, padding="valid") + bias
            logits.append(ops.reshape(logit, (ops.shape(logit)[0], -1)))
        logits = ops.concatenate(logits, axis=1) if len(logits) > 1 else logits[0]
        return {
            "scores": ops.sigmoid(logits),
            "box_deltas": outputs["box_deltas"],
            "landmark_deltas": outputs["landmark_deltas"],
        }

    return forward


def _class_heads(network: RetinaFaceNetwork) -> list[tuple[Any, Any]]:
    """(feature map, 1x1 convolution) of every level's classifier, fine to coarse."""
    found = []
    for level in network.config.levels:
        anchors = network.get_layer(f"p{level.index}_class_anchors")
        layer, node, _ = anchors.input._keras_history
        found.append((layer._inbound_nodes[node].input_tensors[0], layer))
    return found
