"""The public layout: which convolution of the published PyTorch networks is which layer here.

The names are those of biubug6/Pytorch_Retinaface (MIT) and the many trainings that descend from
it; under `body.`, ResNets and MobileNetV2 have torchvision's names. `common_name` gives the names of
yakhyo/retinaface-pytorch (MIT) in these.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.errors import WeightsError
from retinaface_tf.models.backbones import MOBILENETV2_STAGES, resnet_depths

_MOBILENETS = ("mobilenet0.25", "mobilenet0.5", "mobilenet1.0")
# Separable blocks of MobileNetV1 in each of the public network's stages (13 in all).
_MOBILENET_STAGES = (5, 6, 2)
_RESNETS = ("resnet18", "resnet34", "resnet50")
_BASIC_BLOCK = (("first", 1), ("second", 2))
_BOTTLENECK = (("reduce", 1), ("middle", 2), ("expand", 3))
_HEADS = {"class": "ClassHead", "box": "BboxHead", "landmark": "LandmarkHead"}

# A convolution's input: one entry for each map that is concatenated; each entry names the
# convolutions whose outputs are added up to that map.
Inputs = tuple[frozenset[str], ...]


@dataclass(frozen=True)
class Unit:
    """A convolution with its batch norm, or with its bias.

    Attributes:
        layer: our name: the layers `{layer}_conv` and `{layer}_bn`, or `{layer}` for a head.
        convolution: the public name of the convolution, without `.weight`.
        norm: the public name of its batch norm; None for a head, which has a bias instead.
        inputs: where its input comes from, by `layer`; empty for the image.
        strides: 1 or 2.
        slope, ceiling: of the activation right behind it, as in `layers.convolution.activate`.
    """

    layer: str
    convolution: str
    norm: str | None
    inputs: Inputs
    strides: int = 1
    slope: float | None = None
    ceiling: float | None = None


# Another name of a part of the layout, and its name here.
_OTHER_NAMES = (
    (re.compile(r"^fx\."), "body."),
    (re.compile(r"^class_head\.class_head\.(\d)\."), r"ClassHead.\1.conv1x1."),
    (re.compile(r"^bbox_head\.bbox_head\.(\d)\."), r"BboxHead.\1.conv1x1."),
    (re.compile(r"^landmark_head\.landmark_head\.(\d)\."), r"LandmarkHead.\1.conv1x1."),
    # Depthwise and pointwise unit of a MobileNetV1 block: pairs there, one sequence here.
    (re.compile(r"^(body\.stage\d\.\d+)\.0\.([01])\."), r"\1.\2."),
    (re.compile(r"^(body\.stage\d\.\d+)\.1\.0\."), r"\1.3."),
    (re.compile(r"^(body\.stage\d\.\d+)\.1\.1\."), r"\1.4."),
)


def common_name(name: str) -> str:
    """What this layout calls a tensor of its descendants."""
    for pattern, ours in _OTHER_NAMES:
        name = pattern.sub(ours, name)
    return name


def public_units(config: RetinaFaceConfig) -> list[Unit]:
    """Every convolution of a network, in the order of its forward pass.

    Raises:
        WeightsError: networks of this architecture were never published in this layout.
    """
    if config.shared_heads:
        raise WeightsError(
            "The public layout has one set of heads a level, and this network shares one set "
            "(shared_heads=True); convert into a preset without shared heads."
        )
    slope = config.pyramid_slope
    if config.backbone in _RESNETS:
        basic = config.backbone != "resnet50"
        units, features = _resnet_units(resnet_depths(config.backbone), basic)
    elif config.backbone == "mobilenetv2":
        units, features = _inverted_units()
    elif config.backbone in _MOBILENETS:
        units, features = _mobilenet_units(config.negative_slope)
    else:
        raise WeightsError(
            f"The public layout has no network with the backbone {config.backbone}; it has "
            f"{', '.join((*_MOBILENETS, 'mobilenetv2', *_RESNETS))}: choose a preset with one of these."
        )
    levels = [level.index for level in config.levels]
    for number, level in enumerate(levels, start=1):
        if level not in features:
            raise WeightsError(
                f"The public layout has no pyramid level of stride {2**level}; convert into a "
                "preset with strides among 4, 8, 16 and 32."
            )
        names = _numbered(f"fpn.output{number}")
        units.append(Unit(f"p{level}_lateral", *names, (features[level],), slope=slope))
    # From coarse to fine; the coarsest level has nothing to merge.
    above = f"p{levels[-1]}_lateral"
    merged = {levels[-1]: above}
    for number, level in reversed(list(enumerate(levels[:-1], start=1))):
        merged[level] = f"p{level}_merge"
        inputs = (frozenset({f"p{level}_lateral", above}),)
        units.append(Unit(merged[level], *_numbered(f"fpn.merge{number}"), inputs, slope=slope))
        above = merged[level]
    for number, level in enumerate(levels, start=1):
        units += _context_units(number, level, merged[level], slope)
    for head, public in _HEADS.items():
        for number, level in enumerate(levels):
            contexts = (f"p{level}_context_{field}" for field in ("3x3", "5x5", "7x7"))
            inputs = tuple(frozenset({name}) for name in contexts)
            units.append(Unit(f"p{level}_{head}", f"{public}.{number}.conv1x1", None, inputs))
    return units


def _numbered(prefix: str) -> tuple[str, str]:
    """A `Sequential` of convolution (0) and batch norm (1)."""
    return f"{prefix}.0", f"{prefix}.1"


def _mobilenet_units(slope: float) -> tuple[list[Unit], dict[int, frozenset[str]]]:
    """The backbone's convolutions, and whose output each level's feature map is."""
    units = [Unit("stem", *_numbered("body.stage1.0"), (), 2, slope)]
    features, number = {}, 0
    for stage, depth in enumerate(_MOBILENET_STAGES, start=1):
        # The first stage's item 0 is the stem.
        for item in range(stage == 1, depth + (stage == 1)):
            number += 1
            prefix = f"body.stage{stage}.{item}"
            strides = 2 if number in (2, 4, 6, 12) else 1
            for part, first in (("depthwise", 0), ("pointwise", 3)):
                names = (f"{prefix}.{first}", f"{prefix}.{first + 1}")
                inputs = (frozenset({units[-1].layer}),)
                units.append(Unit(f"block{number}_{part}", *names, inputs, strides, slope))
                strides = 1
    level = 0
    for unit in units:
        level += unit.strides - 1
        features[level] = frozenset({unit.layer})
    return units, features


def _inverted_units() -> tuple[list[Unit], dict[int, frozenset[str]]]:
    """As `_mobilenet_units`, of MobileNetV2; a block's output is linear, and may be a sum."""
    stem = _numbered("body.features.0")
    units = [Unit("stem", *stem, (), 2, 0.0, 6.0)]
    features, previous, number, level, channels = {}, frozenset({"stem"}), 0, 1, 32
    for expansion, width, depth, first in MOBILENETV2_STAGES:
        for strides in (first, *[1] * (depth - 1)):
            number += 1
            level += strides - 1
            ours, public = f"block{number}", f"body.features.{number}.conv"
            item, source = 0, previous
            parts = [("depthwise", strides)]
            if expansion > 1:
                parts.insert(0, ("expand", 1))
            for part, stride in parts:
                names = _numbered(f"{public}.{item}")
                units.append(Unit(f"{ours}_{part}", *names, (source,), stride, 0.0, 6.0))
                source, item = frozenset({units[-1].layer}), item + 1
            names = (f"{public}.{item}", f"{public}.{item + 1}")
            units.append(Unit(f"{ours}_project", *names, (source,)))
            output = frozenset({units[-1].layer})
            same = strides == 1 and channels == width
            previous, channels = (output | previous) if same else output, width
            features[level] = previous
    names = _numbered(f"body.features.{number + 1}")
    units.append(Unit(f"block{number + 1}_pointwise", *names, (previous,), 1, 0.0, 6.0))
    features[level] = frozenset({units[-1].layer})
    return units, features


def _resnet_units(
    depths: tuple[int, ...], basic: bool
) -> tuple[list[Unit], dict[int, frozenset[str]]]:
    """As `_mobilenet_units`; a block's output is the sum of its last convolution and the shortcut."""
    units = [Unit("stem", "body.conv1", "body.bn1", (), 2, 0)]
    features, previous = {}, frozenset({"stem"})
    for stage, depth in enumerate(depths, start=1):
        for block in range(1, depth + 1):
            ours, public = f"stage{stage}_block{block}", f"body.layer{stage}.{block - 1}"
            strides = 2 if block == 1 and stage > 1 else 1
            source = shortcut = previous
            if block == 1 and not (basic and stage == 1):
                names = _numbered(f"{public}.downsample")
                units.append(Unit(f"{ours}_shortcut", *names, (previous,), strides))
                shortcut = frozenset({f"{ours}_shortcut"})
            for part, number in _BASIC_BLOCK if basic else _BOTTLENECK:
                units.append(
                    Unit(
                        f"{ours}_{part}",
                        f"{public}.conv{number}",
                        f"{public}.bn{number}",
                        (source,),
                        strides if part in ("first", "middle") else 1,
                        None if part in ("second", "expand") else 0,
                    )
                )
                source = frozenset({f"{ours}_{part}"})
            previous = shortcut | source
        features[stage + 1] = previous
    return units, features


def _context_units(number: int, level: int, source: str, slope: float) -> Iterator[Unit]:
    """SSH module: the public names say which branch a convolution ends, and its place in it."""
    for ours, public, behind, activation in (
        ("3x3", "conv3X3", source, None),
        ("shared", "conv5X5_1", source, slope),
        ("5x5", "conv5X5_2", f"p{level}_context_shared", None),
        ("7x7_middle", "conv7X7_2", f"p{level}_context_shared", slope),
        ("7x7", "conv7x7_3", f"p{level}_context_7x7_middle", None),
    ):
        names = _numbered(f"ssh{number}.{public}")
        inputs = (frozenset({behind}),)
        yield Unit(f"p{level}_context_{ours}", *names, inputs, slope=activation)
