"""Convolution, batch normalisation and activation: the unit every part of the network is made of."""

import keras
from keras import layers

from retinaface_tf.layers.batch_norm import batch_norm
from retinaface_tf.layers.deformable_conv import DeformableConv2D


def _pad(x, kernel_size: int, strides: int, name: str):
    """Symmetric zero padding of (kernel - 1) / 2, and the `padding` argument left for the layer.

    "same" pads strided convolutions on the bottom and right only, which would shift the feature
    map by half a pixel against the anchors' centres and against every public checkpoint.
    """
    if strides == 1:
        return x, "same"
    if kernel_size > 1:
        x = layers.ZeroPadding2D(kernel_size // 2, name=f"{name}_pad")(x)
    return x, "valid"


def activate(x, negative_slope: float | None, name: str, ceiling: float | None = None):
    """LeakyReLU of the given slope, ReLU for 0, cut at a ceiling (ReLU6) or not; nothing for None."""
    if negative_slope is None:
        return x
    if negative_slope == 0:
        return layers.ReLU(max_value=ceiling, name=name)(x)
    return layers.LeakyReLU(negative_slope=negative_slope, name=name)(x)


def conv_bn(
    x: keras.KerasTensor,
    filters: int,
    kernel_size: int,
    *,
    strides: int = 1,
    negative_slope: float | None = None,
    ceiling: float | None = None,
    deformable: bool = False,
    name: str,
) -> keras.KerasTensor:
    """Bias-free convolution, batch norm, activation: layers `{name}_conv` and `{name}_bn`.

    Args:
        x: [B, H, W, C].
        filters: output channels.
        kernel_size: odd side of the square kernel.
        strides: the output has ceil(H / strides) rows.
        negative_slope, ceiling: see `activate`.
        deformable: a `DeformableConv2D` instead of a `Conv2D`.

    Returns:
        [B, ceil(H / strides), ceil(W / strides), filters].
    """
    x, padding = _pad(x, kernel_size, strides, name)
    convolution = DeformableConv2D if deformable else layers.Conv2D
    x = convolution(
        filters, kernel_size, strides, padding=padding, use_bias=False, name=f"{name}_conv"
    )(x)
    x = batch_norm(f"{name}_bn")(x)
    return activate(x, negative_slope, f"{name}_act", ceiling)


def depthwise_bn(
    x: keras.KerasTensor,
    *,
    strides: int = 1,
    negative_slope: float | None = None,
    ceiling: float | None = None,
    name: str,
) -> keras.KerasTensor:
    """3x3 depthwise convolution, batch norm, activation: `{name}_conv` and `{name}_bn`."""
    x, padding = _pad(x, 3, strides, name)
    x = layers.DepthwiseConv2D(3, strides, padding=padding, use_bias=False, name=f"{name}_conv")(x)
    x = batch_norm(f"{name}_bn")(x)
    return activate(x, negative_slope, f"{name}_act", ceiling)


def separable_bn(
    x: keras.KerasTensor,
    filters: int,
    *,
    negative_slope: float | None = None,
    name: str,
) -> keras.KerasTensor:
    """1x1, then 3x3 depthwise convolution, batch norm, activation (YuNet's unit, Wu et al. 2023).

    The depthwise convolution comes last, and nothing stands between the two. Layers
    `{name}_pointwise` (with a bias, which the zero padding behind it does not see), `{name}_conv`
    and `{name}_bn`.

    Args:
        x: [B, H, W, C].
        filters: output channels.
        negative_slope: see `activate`.

    Returns:
        [B, H, W, filters].
    """
    x = layers.Conv2D(filters, 1, name=f"{name}_pointwise")(x)
    return depthwise_bn(x, negative_slope=negative_slope, name=name)
