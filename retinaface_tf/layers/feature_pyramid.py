"""Feature pyramid: lateral 1x1, top-down nearest up-sampling, 3x3 merge (Lin et al. 2017)."""

import keras
from keras import layers, ops

from retinaface_tf.layers.convolution import conv_bn, separable_bn


@keras.saving.register_keras_serializable(package="retinaface_tf")
class UpsampleLike(layers.Layer):
    """Doubles a feature map by repeating cells and cuts it to the size of a reference map.

    The finer map of a pyramid has 2n or 2n - 1 cells where the coarser has n; cutting the last
    repeated row then equals nearest up-sampling to that size. Inputs: coarse [B, h, w, C] and
    reference [B, H, W, any]; output [B, H, W, C].
    """

    def call(self, inputs):
        coarse, reference = inputs
        doubled = _repeat_cells(coarse)
        if doubled.shape[1:3] == reference.shape[1:3] and None not in reference.shape[1:3]:
            return doubled
        height, width = ops.shape(reference)[1:3]
        return doubled[:, :height, :width, :]

    def compute_output_shape(self, input_shape):
        coarse, reference = input_shape
        return (coarse[0], reference[1], reference[2], coarse[3])


def _repeat_cells(x):
    """[B, h, w, C] -> [B, 2h, 2w, C], every cell four times.

    As four copies side by side, spread by depth-to-space: XNNPACK runs both, at any size and
    without a number of the size in the graph, while it leaves the tile behind `ops.repeat` and
    nearest-neighbour resizing to slower code and cuts the graph in two there.
    """
    return ops.depth_to_space(ops.concatenate([x, x, x, x], axis=-1), 2)


def feature_pyramid(
    features: dict[int, keras.KerasTensor],
    channels: int,
    negative_slope: float,
    *,
    deformable: bool = False,
    coarse_level: bool = False,
) -> dict[int, keras.KerasTensor]:
    """Joins backbone features from coarse to fine, and may add a level coarser than them all.

    The merged map, not the raw lateral, flows on to the next finer level, as in the public
    networks; the coarsest level is its lateral alone.

    Args:
        features: backbone maps [B, H, W, C] by level number (3 is stride 8).
        channels: width of every output.
        negative_slope: of the activations, see `convolution.activate`.
        deformable: the 3x3 merging convolutions are (1905.00641, section 3.3).
        coarse_level: adds one of twice the stride, a 3x3 convolution of stride 2 on the coarsest
            feature (P6 on C5), which does not flow into the finer levels.

    Returns:
        Pyramid maps [B, H, W, channels] by level number.
    """
    outputs: dict[int, keras.KerasTensor] = {}
    coarser = None
    if coarse_level:
        top = max(features)
        outputs[top + 1] = conv_bn(
            features[top],
            channels,
            3,
            strides=2,
            negative_slope=negative_slope,
            name=f"p{top + 1}_downsample",
        )
    for level in sorted(features, reverse=True):
        x = conv_bn(
            features[level], channels, 1, negative_slope=negative_slope, name=f"p{level}_lateral"
        )
        if coarser is not None:
            upsampled = UpsampleLike(name=f"p{level}_upsample")([coarser, x])
            x = layers.Add(name=f"p{level}_add")([x, upsampled])
            x = conv_bn(
                x,
                channels,
                3,
                negative_slope=negative_slope,
                deformable=deformable,
                name=f"p{level}_merge",
            )
        outputs[level] = coarser = x
    return dict(sorted(outputs.items()))


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
