"""The public layout: which convolution of the published PyTorch networks is which layer here.

The names are those of biubug6/Pytorch_Retinaface (MIT) and the many trainings that descend from
it; under `body.`, ResNet-50 has torchvision's names.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.errors import WeightsError

# Separable blocks of MobileNetV1 in each of the public network's stages (13 in all).
_MOBILENET_STAGES = (5, 6, 2)
_RESNET_DEPTHS = {"resnet50": (3, 4, 6, 3)}
_HEADS = {"class": "ClassHead", "box": "BboxHead", "landmark": "LandmarkHead"}

# A convolution's input: one entry for each map that is concatenated; each entry names the
# convolutions whose outputs are added up to that map.
Inputs = tuple[frozenset[str], ...]


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A convolution with its batch norm, or with its bias.

    Attributes:
        layer: our name: the layers `{layer}_conv` and `{layer}_bn`, or `{layer}` for a head.
        convolution: the public name of the convolution, without `.weight`.
        norm: the public name of its batch norm; None for a head, which has a bias instead.
        inputs: where its input comes from, by `layer`; empty for the image.
        strides: 1 or 2.
        slope: of the activation right behind it, as in `layers.convolution.activate`.
    """

    layer: str
    convolution: str
    norm: str | None
    inputs: Inputs
    strides: int = 1
    slope: float | None = None


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
    backbone, features = backbone_units(config.backbone, config.negative_slope)
    units = list(backbone)
    pyramid = dict(enumerate((level.index for level in config.levels), start=1))
    for number, level in pyramid.items():
        if level not in features:
            raise WeightsError(
                f"The public layout has no pyramid level of stride {2**level}; convert into a "
                "preset with strides among 4, 8, 16 and 32."
            )
        units.append(
            Unit(
                layer=f"p{level}_lateral",
                **_numbered(f"fpn.output{number}"),
                inputs=(features[level],),
                slope=config.negative_slope,
            )
        )
    merged = {level: f"p{level}_merge" for level in pyramid.values()}
    merged[pyramid[len(pyramid)]] = f"p{pyramid[len(pyramid)]}_lateral"
    for number in range(len(pyramid) - 1, 0, -1):
        level = pyramid[number]
        units.append(
            Unit(
                layer=merged[level],
                **_numbered(f"fpn.merge{number}"),
                inputs=(frozenset({f"p{level}_lateral", merged[pyramid[number + 1]]}),),
                slope=config.negative_slope,
            )
        )
    for number, level in pyramid.items():
        units += _context_units(number, level, merged[level], config.negative_slope)
    for head, public in _HEADS.items():
        for number, level in pyramid.items():
            units.append(
                Unit(
                    layer=f"p{level}_{head}",
                    convolution=f"{public}.{number - 1}.conv1x1",
                    norm=None,
                    inputs=tuple(
                        frozenset({f"p{level}_context_{field}"}) for field in ("3x3", "5x5", "7x7")
                    ),
                )
            )
    return units


def backbone_units(
    name: str, negative_slope: float
) -> tuple[list[Unit], dict[int, frozenset[str]]]:
    """The backbone's convolutions, and whose sum each level's feature map is."""
    if name.startswith("mobilenet"):
        units = list(_mobilenet_units(negative_slope))
    else:
        return _resnet_units(_RESNET_DEPTHS[name])
    features, level = {}, 0
    for unit in units:
        level += unit.strides - 1
        features[level] = frozenset({unit.layer})
    return units, features


def _numbered(prefix: str) -> dict[str, str]:
    """A `Sequential` of convolution (0) and batch norm (1)."""
    return {"convolution": f"{prefix}.0", "norm": f"{prefix}.1"}


def _mobilenet_units(slope: float) -> Iterator[Unit]:
    yield Unit(layer="stem", **_numbered("body.stage1.0"), inputs=(), strides=2, slope=slope)
    previous, number = "stem", 0
    for stage, depth in enumerate(_MOBILENET_STAGES, start=1):
        # The first stage's item 0 is the stem.
        for item in range(stage == 1, depth + (stage == 1)):
            number += 1
            prefix = f"body.stage{stage}.{item}"
            depthwise, pointwise = f"block{number}_depthwise", f"block{number}_pointwise"
            yield Unit(
                layer=depthwise,
                convolution=f"{prefix}.0",
                norm=f"{prefix}.1",
                inputs=(frozenset({previous}),),
                strides=2 if number in (2, 4, 6, 12) else 1,
                slope=slope,
            )
            yield Unit(
                layer=pointwise,
                convolution=f"{prefix}.3",
                norm=f"{prefix}.4",
                inputs=(frozenset({depthwise}),),
                slope=slope,
            )
            previous = pointwise


def _resnet_units(depths: tuple[int, ...]) -> tuple[list[Unit], dict[int, frozenset[str]]]:
    units = [
        Unit(layer="stem", convolution="body.conv1", norm="body.bn1", inputs=(), strides=2, slope=0)
    ]
    features, previous = {}, frozenset({"stem"})
    for stage, depth in enumerate(depths, start=1):
        for block in range(1, depth + 1):
            ours, public = f"stage{stage}_block{block}", f"body.layer{stage}.{block - 1}"
            strides = 2 if block == 1 and stage > 1 else 1
            shortcut = previous
            if block == 1:
                units.append(
                    Unit(
                        layer=f"{ours}_shortcut",
                        **_numbered(f"{public}.downsample"),
                        inputs=(previous,),
                        strides=strides,
                    )
                )
                shortcut = frozenset({f"{ours}_shortcut"})
            source = previous
            for number, part in enumerate(("reduce", "middle", "expand"), start=1):
                units.append(
                    Unit(
                        layer=f"{ours}_{part}",
                        convolution=f"{public}.conv{number}",
                        norm=f"{public}.bn{number}",
                        inputs=(source,),
                        strides=strides if part == "middle" else 1,
                        slope=None if part == "expand" else 0,
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
        yield Unit(
            layer=f"p{level}_context_{ours}",
            **_numbered(f"ssh{number}.{public}"),
            inputs=(frozenset({behind}),),
            slope=activation,
        )
