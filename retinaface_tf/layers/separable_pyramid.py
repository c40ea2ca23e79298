"""YuNet's pyramid (Wu et al. 2023, section 3.2): sums of maps, one separable unit behind each sum."""

from __future__ import annotations

import keras
from keras import layers

from retinaface_tf.layers.convolution import separable_bn
from retinaface_tf.layers.feature_pyramid import UpsampleLike


def separable_pyramid(
    features: dict[int, keras.KerasTensor], channels: int, negative_slope: float
) -> dict[int, keras.KerasTensor]:
    """Joins backbone features from coarse to fine.

    Args:
        features: backbone maps [B, H, W, channels] by level number (3 is stride 8).
        channels: width of every map.
        negative_slope: of the activations, see `convolution.activate`.

    Returns:
        Pyramid maps [B, H, W, channels] by level number.
    """
    outputs: dict[int, keras.KerasTensor] = {}
    coarser = None
    for level in sorted(features, reverse=True):
        x = features[level]
        if coarser is not None:
            upsampled = UpsampleLike(name=f"p{level}_upsample")([coarser, x])
            x = layers.Add(name=f"p{level}_add")([x, upsampled])
        x = separable_bn(x, channels, negative_slope=negative_slope, name=f"p{level}_merge")
        outputs[level] = coarser = x
    return dict(sorted(outputs.items()))
