"""Backbones: from an image to feature maps C2..C5 at strides 4, 8, 16 and 32."""

from __future__ import annotations

from collections.abc import Callable

import keras
from keras import layers

from retinaface_tf.layers.convolution import activate, conv_bn, depthwise_bn, separable_bn
from retinaface_tf.util.registry import register, unregistered

# MobileNetV1 (Howard et al. 2017): width at multiplier 1 and stride of each separable block.
MOBILENET_BLOCKS = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1)),
    *((512, 2), (512, 1), (512, 1), (512, 1), (512, 1), (512, 1)),
    *((1024, 2), (1024, 1)),
)
# YuNet (Wu et al. 2023, table 1): width of the two units of each stage; the first stage is at stride
# 2, the next two at 4, then 8, 16 and 32.
YUNET_WIDTHS = ((16, 16), (16, 64), (64, 64), (64, 64), (64, 64), (64, 64))
# Of the dense stem in its place, at strides 2, 4 and 8, and its separable units at stride 8.
DENSE_STEM_WIDTHS = (16, 48, 64)
DENSE_STEM_UNITS = 4
RESNET_DEPTHS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
# MobileNetV2 (Sandler et al. 2018, table 2): expansion, width, blocks and first stride of each stage.
MOBILENETV2_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
MOBILENETV2_LAST = 1280

BackboneBuilder = Callable[[keras.KerasTensor, float], dict[int, keras.KerasTensor]]
_OWN: dict[str, BackboneBuilder] = {}


def register_backbone(name: str, build: BackboneBuilder) -> None:
    """Adds a backbone of your own: `RetinaFaceConfig(backbone=name)` then builds on it.

    Args:
        name: as "mine:mobilenetv3", with the module that calls this before the colon. Weights files
            hold the name; they load where that module was imported, and never import it.
        build: takes the normalised image [B, H, W, 3] and the config's `negative_slope`, and answers
            feature maps by level number as `build_backbone` does. Layers with weights need names.

    Raises:
        ConfigError: another backbone has this name, or it names no module.
    """
    register(_OWN, "backbone", name, build)


def build_backbone(
    name: str, image: keras.KerasTensor, negative_slope: float
) -> dict[int, keras.KerasTensor]:
    """Feature maps by level number: level n has stride 2**n.

    Args:
        name: one of `config.BACKBONES`, or of `register_backbone`.
        image: normalised image [B, H, W, 3].
        negative_slope: of MobileNetV1's and YuNet's activations; a ResNet's are ReLU, MobileNetV2's
            ReLU6.

    Returns:
        {2: C2, 3: C3, 4: C4, 5: C5}, each [B, ceil(H / 2**n), ceil(W / 2**n), C].

    Raises:
        ConfigError: a backbone of your own is not registered.
    """
    if ":" in name:
        if name not in _OWN:
            raise unregistered("backbone", name, _OWN)
        return _OWN[name](image, negative_slope)
    family, _, variant = name.partition("-")
    if family == "mobilenetv2":
        return _mobilenetv2(image)
    if family.startswith("mobilenet"):
        width = float(family.removeprefix("mobilenet"))
        return _mobilenet(image, width, negative_slope, wide_stem=variant == "paper")
    if family == "yunet":
        stem = _dense_stem if variant == "dense" else _yunet_stem
        return _yunet_stages(stem(image, negative_slope), negative_slope)
    basic = family in ("resnet18", "resnet34")
    return _resnet(image, resnet_depths(name), stride_first=variant == "v1", basic=basic)


def resnet_depths(name: str) -> tuple[int, ...]:
    """Blocks in each of the four stages of "resnet50", "resnet101-v1", ..."""
    return RESNET_DEPTHS[int(name.partition("-")[0].removeprefix("resnet"))]


def _mobilenet(
    x: keras.KerasTensor, width: float, negative_slope: float, wide_stem: bool
) -> dict[int, keras.KerasTensor]:
    """MobileNetV1; with `wide_stem` 7x7 of stride 4, and the second block keeps that stride."""
    kernel_size, strides = (7, 4) if wide_stem else (3, 2)
    x = conv_bn(
        x,
        int(32 * width),
        kernel_size,
        strides=strides,
        negative_slope=negative_slope,
        name="stem",
    )
    features, level = {}, 1
    for number, (filters, strides) in enumerate(MOBILENET_BLOCKS, start=1):
        name = f"block{number}"
        level += strides - 1
        if wide_stem and level == 2:
            strides = 1
        x = depthwise_bn(
            x, strides=strides, negative_slope=negative_slope, name=f"{name}_depthwise"
        )
        filters = int(filters * width)
        x = conv_bn(x, filters, 1, negative_slope=negative_slope, name=f"{name}_pointwise")
        if level >= 2:
            features[level] = x
    return features


def _mobilenetv2(x: keras.KerasTensor) -> dict[int, keras.KerasTensor]:
    """Inverted residuals; C2..C4 are the outputs of blocks, which are linear, C5 the last convolution's."""
    relu6 = {"negative_slope": 0, "ceiling": 6.0}
    x = conv_bn(x, 32, 3, strides=2, name="stem", **relu6)
    features, number, level = {}, 0, 1
    for expansion, width, depth, first in MOBILENETV2_STAGES:
        for strides in (first, *[1] * (depth - 1)):
            number += 1
            level += strides - 1
            name, shortcut = f"block{number}", x
            if expansion > 1:
                x = conv_bn(x, expansion * x.shape[-1], 1, name=f"{name}_expand", **relu6)
            x = depthwise_bn(x, strides=strides, name=f"{name}_depthwise", **relu6)
            x = conv_bn(x, width, 1, name=f"{name}_project")
            if shortcut.shape[-1] == width and strides == 1:
                x = layers.Add(name=f"{name}_add")([x, shortcut])
            features[level] = x
    features[level] = conv_bn(x, MOBILENETV2_LAST, 1, name=f"block{number + 1}_pointwise", **relu6)
    return features


def _yunet_stem(x: keras.KerasTensor, negative_slope: float) -> dict[int, keras.KerasTensor]:
    """YuNet's first three stages, separable units with a 2x2 maximum between strides 2 and 4.

    The first stage begins with the stem, 3x3 of stride 2, in place of its first unit.
    """
    (stem, first), *others = YUNET_WIDTHS[:3]
    x = conv_bn(x, stem, 3, strides=2, negative_slope=negative_slope, name="stem")
    x = separable_bn(x, first, negative_slope=negative_slope, name="block1_2")
    x = layers.MaxPooling2D(2, padding="same", name="block2_pool")(x)
    for stage, (first, second) in enumerate(others, start=2):
        x = separable_bn(x, first, negative_slope=negative_slope, name=f"block{stage}_1")
        x = separable_bn(x, second, negative_slope=negative_slope, name=f"block{stage}_2")
    return {2: x, 3: layers.MaxPooling2D(2, padding="same", name="block4_pool")(x)}


def _dense_stem(x: keras.KerasTensor, negative_slope: float) -> dict[int, keras.KerasTensor]:
    """Ours: three dense 3x3 convolutions of stride 2, then four separable units at stride 8.

    Dense convolutions of few channels are a matrix product that keeps a processor busy, where
    depthwise ones at strides 2 and 4 wait for memory: 70 % of YuNet's time on a CPU.
    """
    features = {}
    for level, width in enumerate(DENSE_STEM_WIDTHS, start=1):
        x = conv_bn(x, width, 3, strides=2, negative_slope=negative_slope, name=f"stem{level}")
        features[level] = x
    for number in range(DENSE_STEM_UNITS):
        name = f"stem{len(DENSE_STEM_WIDTHS) + 1 + number}"
        x = separable_bn(x, width, negative_slope=negative_slope, name=name)
    return {2: features[2], 3: x}


def _yunet_stages(
    features: dict[int, keras.KerasTensor], negative_slope: float
) -> dict[int, keras.KerasTensor]:
    """YuNet's stages at strides 8, 16 and 32, with a 2x2 maximum between them.

    A maximum over a cut-off last row or column keeps ceil(H / 2) rows, as strided convolutions do.

    Args:
        features: C2, and the map of stride 8 that the first of these stages takes.
    """
    x = features[3]
    for stage, (first, second) in enumerate(YUNET_WIDTHS[3:], start=4):
        if stage > 4:
            x = layers.MaxPooling2D(2, padding="same", name=f"block{stage}_pool")(x)
        x = separable_bn(x, first, negative_slope=negative_slope, name=f"block{stage}_1")
        x = separable_bn(x, second, negative_slope=negative_slope, name=f"block{stage}_2")
        features[stage - 1] = x
    return features


def _resnet(
    x: keras.KerasTensor, depths: tuple[int, ...], *, stride_first: bool, basic: bool
) -> dict[int, keras.KerasTensor]:
    """He et al. 2016, of `basic` blocks of two 3x3 convolutions, or of bottlenecks.

    With `stride_first` a stage's stride is on its first 1x1 convolution (the paper, and the
    weights of keras.applications), else on its first 3x3 convolution (torchvision's weights).
    """
    x = conv_bn(x, 64, 7, strides=2, negative_slope=0, name="stem")
    # Zero padding is as good as minus infinity here: the input is the output of a ReLU.
    x = layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
    x = layers.MaxPooling2D(3, 2, name="stem_pool")(x)
    features = {}
    for stage, depth in enumerate(depths, start=1):
        for block in range(1, depth + 1):
            strides = 2 if block == 1 and stage > 1 else 1
            filters, name = 32 << stage, f"stage{stage}_block{block}"
            if basic:
                x = _basic_block(x, filters, strides, name=name)
                continue
            x = _bottleneck(
                x,
                filters,
                (strides, 1) if stride_first else (1, strides),
                project=block == 1,
                name=name,
            )
        features[stage + 1] = x
    return features


def _basic_block(x, filters: int, strides: int, name: str):
    shortcut = x
    if strides > 1:
        shortcut = conv_bn(x, filters, 1, strides=strides, name=f"{name}_shortcut")
    x = conv_bn(x, filters, 3, strides=strides, negative_slope=0, name=f"{name}_first")
    x = conv_bn(x, filters, 3, name=f"{name}_second")
    x = layers.Add(name=f"{name}_add")([x, shortcut])
    return activate(x, 0, f"{name}_out")


def _bottleneck(x, filters: int, strides: tuple[int, int], project: bool, name: str):
    shortcut = x
    if project:
        shortcut = conv_bn(x, 4 * filters, 1, strides=max(strides), name=f"{name}_shortcut")
    x = conv_bn(x, filters, 1, strides=strides[0], negative_slope=0, name=f"{name}_reduce")
    x = conv_bn(x, filters, 3, strides=strides[1], negative_slope=0, name=f"{name}_middle")
    x = conv_bn(x, 4 * filters, 1, name=f"{name}_expand")
    x = layers.Add(name=f"{name}_add")([x, shortcut])
    return activate(x, 0, f"{name}_out")
