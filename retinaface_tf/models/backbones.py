"""Backbones: from an image to feature maps C2..C5 at strides 4, 8, 16 and 32."""

from __future__ import annotations

import keras
from keras import layers

from retinaface_tf.layers.convolution import activate, conv_bn, depthwise_bn

# MobileNetV1 (Howard et al. 2017): width at multiplier 1 and stride of each separable block.
MOBILENET_BLOCKS = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1)),
    *((512, 2), (512, 1), (512, 1), (512, 1), (512, 1), (512, 1)),
    *((1024, 2), (1024, 1)),
)
RESNET_DEPTHS = {"resnet50": (3, 4, 6, 3)}


def build_backbone(
    name: str, image: keras.KerasTensor, negative_slope: float
) -> dict[int, keras.KerasTensor]:
    """Feature maps by level number: level n has stride 2**n.

    Args:
        name: one of `config.BACKBONES`.
        image: normalised picture [B, H, W, 3].
        negative_slope: of a MobileNet's activations; a ResNet's are ReLU.

    Returns:
        {2: C2, 3: C3, 4: C4, 5: C5}, each [B, ceil(H / 2**n), ceil(W / 2**n), C].
    """
    if name.startswith("mobilenet"):
        return _mobilenet(image, float(name.removeprefix("mobilenet")), negative_slope)
    return _resnet(image, RESNET_DEPTHS[name])


def _mobilenet(
    x: keras.KerasTensor, width: float, negative_slope: float
) -> dict[int, keras.KerasTensor]:
    x = conv_bn(x, int(32 * width), 3, strides=2, negative_slope=negative_slope, name="stem")
    features, level = {}, 1
    for number, (filters, strides) in enumerate(MOBILENET_BLOCKS, start=1):
        name = f"block{number}"
        level += strides - 1
        x = depthwise_bn(
            x, strides=strides, negative_slope=negative_slope, name=f"{name}_depthwise"
        )
        filters = int(filters * width)
        x = conv_bn(x, filters, 1, negative_slope=negative_slope, name=f"{name}_pointwise")
        if level >= 2:
            features[level] = x
    return features


def _resnet(x: keras.KerasTensor, depths: tuple[int, ...]) -> dict[int, keras.KerasTensor]:
    """He et al. 2016, with the stride on the 3x3 convolution as torchvision's weights have it."""
    x = conv_bn(x, 64, 7, strides=2, negative_slope=0, name="stem")
    # Zero padding is as good as minus infinity here: the input is the output of a ReLU.
    x = layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
    x = layers.MaxPooling2D(3, 2, name="stem_pool")(x)
    features = {}
    for stage, depth in enumerate(depths, start=1):
        for block in range(1, depth + 1):
            strides = 2 if block == 1 and stage > 1 else 1
            x = _bottleneck(
                x, 32 << stage, strides, project=block == 1, name=f"stage{stage}_block{block}"
            )
        features[stage + 1] = x
    return features


def _bottleneck(x, filters: int, strides: int, project: bool, name: str):
    shortcut = x
    if project:
        shortcut = conv_bn(x, 4 * filters, 1, strides=strides, name=f"{name}_shortcut")
    x = conv_bn(x, filters, 1, negative_slope=0, name=f"{name}_reduce")
    x = conv_bn(x, filters, 3, strides=strides, negative_slope=0, name=f"{name}_middle")
    x = conv_bn(x, 4 * filters, 1, name=f"{name}_expand")
    x = layers.Add(name=f"{name}_add")([x, shortcut])
    return activate(x, 0, f"{name}_out")
