"""Filling a network: every weight gets a value, every value finds its weight, or nothing is done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from retinaface_tf.config import ImageFormat
from retinaface_tf.errors import WeightsError
from retinaface_tf.weights.arrays import require_finite

if TYPE_CHECKING:
    from retinaface_tf.models import RetinaFaceNetwork

# A weight of ours: (layer's name, weight's name), such as ("stem_bn", "gamma").
Place = tuple[str, str]
Values = dict[Place, np.ndarray]

# Kernels [height, width, in, out] that only this backbone has, in this number at least; the first that
# fits is it.
_TELLTALES = {
    "mobilenet0.25": Counter({(3, 3, 3, 8): 1}),
    "mobilenet0.5": Counter({(3, 3, 3, 16): 1}),
    "mobilenet1.0": Counter({(3, 3, 3, 32): 1, (1, 1, 32, 64): 1}),
    "mobilenetv2": Counter({(3, 3, 3, 32): 1, (1, 1, 32, 16): 1}),
    "resnet50": Counter({(7, 7, 3, 64): 1, (1, 1, 64, 256): 1}),
    "resnet34": Counter({(7, 7, 3, 64): 1, (3, 3, 512, 512): 5}),
    "resnet18": Counter({(7, 7, 3, 64): 1, (3, 3, 512, 512): 3}),
}


def some(names: Iterable[str], limit: int = 3) -> str:
    """A few names and how many more there are."""
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def our_kernel(kernel: np.ndarray) -> np.ndarray:
    """[out, in, height, width] as [height, width, in, out]; depthwise, where in is 1, [.., out, 1]."""
    return kernel.transpose(2, 3, 0, 1) if kernel.shape[1] == 1 else kernel.transpose(2, 3, 1, 0)


def folded_norm_values(network: RetinaFaceNetwork, unit: str, bias: np.ndarray) -> Values:
    """Values for the batch norm `{unit}_bn` that was folded into a convolution with that bias [C]."""
    from retinaface_tf.models.batch_norm import offset_values

    layer = f"{unit}_bn"
    norm = offset_values(bias, network.get_layer(layer).epsilon)
    return {(layer, name): values for name, values in norm.items()}


def likely_backbone(kernels: Iterable[tuple[int, ...]]) -> str | None:
    """The backbone that has such kernels [height, width, in, out]; None where it is none of these."""
    found = Counter(kernels)
    return next((name for name, some in _TELLTALES.items() if some <= found), None)


def misfit(
    source: str,
    backbone: str,
    problems: Mapping[str, list[str]],
    kernels: Iterable[tuple[int, ...]] = (),
) -> WeightsError:
    """The error for a file of another network.

    Args:
        backbone: that was wanted.
        problems: names by what is wrong: {"tensors are missing": ["stem_conv/kernel"]}.
        kernels: shapes of the file's kernels, in our layout, which tell its backbone.
    """
    likely = likely_backbone(kernels)
    known = likely not in (None, backbone)
    parts = [
        f"{len(names)} {what} ({some(names, 1 if known else 3)})"
        for what, names in problems.items()
        if names
    ]
    advice = (
        f"it looks like {likely}, so try --preset {likely}"
        if known
        else "check that --preset names the network the file was trained with"
    )
    return WeightsError(
        f"{source} does not fit a {backbone} network: {', '.join(parts)}; {advice}."
    )


def fill_network(
    network: RetinaFaceNetwork,
    values: Values,
    source: str,
    *,
    images: ImageFormat,
    names: Mapping[Place, str] | None = None,
    unknown: Iterable[str] = (),
    kernels: Iterable[tuple[int, ...]] = (),
) -> None:
    """Assigns values of another program's file to a network's weights.

    Args:
        network: is changed only when everything fits.
        values: in our layout (kernels [height, width, in, out], depthwise [.., channels, 1]); the
            stem's kernel is changed here for RGB images in 0..255.
        images: that the other program gives its network.
        names: what the file calls the values; ours where it is left out.
        unknown: names in the file that have no place here.
        kernels: see `misfit`.

    Raises:
        WeightsError: a weight has no value, a value no weight, shapes differ or numbers are not
            finite.
    """
    weights = {
        (layer.name, weight.name): weight
        for layer in network.layers
        # The dense branch is of this package: no other program's file has it.
        if layer.name != "dense_head"
        for weight in layer.weights
    }

    def name(place: Place) -> str:
        return (names or {}).get(place, "/".join(place))

    problems = {
        "tensors are missing": [name(place) for place in weights if place not in values],
        "tensors have another shape": [
            f"{name(place)} {value.shape}"
            for place, value in values.items()
            if place in weights and value.shape != tuple(weights[place].shape)
        ],
        "tensors have no place": [
            *unknown,
            *(name(place) for place in values if place not in weights),
        ],
    }
    if any(problems.values()):
        raise misfit(source, network.config.backbone, problems, kernels)
    # As the network keeps them: a larger number would become infinite.
    with np.errstate(over="ignore"):
        values = {place: np.asarray(value, np.float32) for place, value in values.items()}
    require_finite(source, {name(place): value for place, value in values.items()})
    for place, value in values.items():
        if place == ("stem_conv", "kernel"):
            value = value[:, :, ::-1] if images.order == "BGR" else value
            value = value / np.float32(images.deviation)[:, None]
        weights[place].assign(value)
