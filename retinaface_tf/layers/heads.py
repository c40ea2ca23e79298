"""Prediction heads: a 1x1 convolution for each quantity, on every level of the pyramid."""

import keras
from keras import layers

# Name of the head and numbers it predicts for an anchor.
HEAD_WIDTHS = {"class": 2, "box": 4, "landmark": 10}

# A fresh classifier starts near P(face) = 0.01, so that the many negatives do not swamp the first
# steps (Lin et al. 2017, focal loss, section 4.1): log((1 - 0.01) / 0.01).
PRIOR_LOGIT = 4.595


@keras.saving.register_keras_serializable(package="retinaface_tf")
class PriorBias(keras.initializers.Initializer):
    """Bias of the two-class head: (+prior, 0) for every anchor's (background, face) logits."""

    def __call__(self, shape, dtype=None):
        pairs = keras.ops.convert_to_tensor([PRIOR_LOGIT, 0.0] * (shape[0] // 2))
        return keras.ops.cast(pairs, dtype or "float32")


def prediction_heads(
    features: dict[int, keras.KerasTensor],
    anchors_per_cell: dict[int, int],
    shared: bool,
    *,
    heads: tuple[str, ...] = tuple(HEAD_WIDTHS),
    prefix: str = "",
    separable: bool = False,
) -> dict[str, keras.KerasTensor]:
    """Logits and deltas for every anchor, in the order of `geometry.generate_anchors`.

    Args:
        features: maps [B, H, W, C] by level number.
        anchors_per_cell: number of anchors in a cell, by level number.
        shared: the same weights on every level (layers `head_box`, ...) or one set a level
            (`p3_box`, ...).
        heads: which of `HEAD_WIDTHS` to make.
        separable: a 3x3 depthwise convolution follows each (layers `p3_box_spread`, ...; YuNet).

    Returns:
        "class" [B, N, 2] (background, face), "box" [B, N, 4] and "landmark" [B, N, 10].
    """
    outputs = {}
    for head in heads:
        width = HEAD_WIDTHS[head]
        prior = PriorBias() if head == "class" else "zeros"
        parts = []
        convolution = None
        for level, feature in sorted(features.items()):
            if convolution is None or not shared:
                convolution = layers.Conv2D(
                    anchors_per_cell[level] * width,
                    1,
                    kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
                    bias_initializer="zeros" if separable else prior,
                    name=f"{prefix}head_{head}" if shared else f"{prefix}p{level}_{head}",
                )
            x = convolution(feature)
            if separable:
                name = f"{prefix}p{level}_{head}_spread"
                x = layers.DepthwiseConv2D(3, padding="same", bias_initializer=prior, name=name)(x)
            parts.append(layers.Reshape((-1, width), name=f"{prefix}p{level}_{head}_anchors")(x))
        name = f"{prefix}{head}_outputs"
        outputs[head] = layers.Concatenate(axis=1, name=name)(parts) if len(parts) > 1 else parts[0]
    return outputs
