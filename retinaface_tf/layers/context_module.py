"""Context module: receptive fields of 3, 5 and 7 cells side by side (SSH, Najibi et al. 2017)."""

import functools

import keras
from keras import layers

from retinaface_tf.layers import convolution


def context_module(
    x: keras.KerasTensor,
    channels: int,
    negative_slope: float,
    name: str,
    deformable: bool = False,
) -> keras.KerasTensor:
    """Half the channels see 3x3, a quarter 5x5, a quarter 7x7; the larger two share their first 3x3.

    Args:
        x: [B, H, W, C].
        channels: output width, a multiple of 4.
        negative_slope: of the inner activations; the output's is ReLU.
        deformable: all its convolutions are (1905.00641, section 3.3).

    Returns:
        [B, H, W, channels].
    """
    half, quarter = channels // 2, channels // 4
    conv_bn = functools.partial(convolution.conv_bn, deformable=deformable)
    field3 = conv_bn(x, half, 3, negative_slope=0, name=f"{name}_3x3")
    shared = conv_bn(x, quarter, 3, negative_slope=negative_slope, name=f"{name}_shared")
    field5 = conv_bn(shared, quarter, 3, negative_slope=0, name=f"{name}_5x5")
    middle = conv_bn(shared, quarter, 3, negative_slope=negative_slope, name=f"{name}_7x7_middle")
    field7 = conv_bn(middle, quarter, 3, negative_slope=0, name=f"{name}_7x7")
    # The ReLU belongs to the concatenation; on each part it is the same, and mobile runtimes fold
    # it into the convolutions.
    return layers.Concatenate(name=f"{name}_concat")([field3, field5, field7])
