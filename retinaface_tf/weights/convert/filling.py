"""Filling a network: every weight gets a value, every value finds its weight, or nothing is done."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from retinaface_tf.errors import WeightsError

if TYPE_CHECKING:
    from retinaface_tf.models import RetinaFaceNetwork

# Values by (layer's name, weight's name): ("stem_conv", "kernel"), ("stem_bn", "gamma").
Values = dict[tuple[str, str], np.ndarray]


def some(names: Iterable[str], limit: int = 3) -> str:
    """A few names and how many more there are."""
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def folded_norm_values(network: RetinaFaceNetwork, unit: str, bias: np.ndarray) -> Values:
    """Values for the batch norm `{unit}_bn` that was folded into a convolution with that bias [C]."""
    from retinaface_tf.models.batch_norm import offset_values

    layer = f"{unit}_bn"
    norm = offset_values(bias, network.get_layer(layer).epsilon)
    return {(layer, name): values for name, values in norm.items()}


def fill_network(
    network: RetinaFaceNetwork, values: Values, source: str, only: set[str] | None = None
) -> None:
    """Assigns values to a network's weights.

    Args:
        network: is changed only when everything fits.
        values: in our layout (kernels [height, width, in, out], depthwise [.., channels, 1]).
        source: the file, for the message.
        only: names of the layers to fill; None for all.

    Raises:
        WeightsError: a weight has no value, a value no weight, shapes differ or numbers are not
            finite.
    """
    weights = {
        (layer.name, weight.name): weight
        for layer in network.layers
        # The dense branch is of this package: no other program's file has it.
        if layer.name in (only or {layer.name}) and layer.name != "dense_head"
        for weight in layer.weights
    }
    problems = []
    if missing := ["/".join(key) for key in weights if key not in values]:
        problems.append(f"no value for {some(missing)}")
    if unused := ["/".join(key) for key in values if key not in weights]:
        problems.append(f"no place for {some(unused)}")
    common = [key for key in weights if key in values]
    if wrong := [
        f"{'/'.join(key)} {tuple(values[key].shape)} for {tuple(weights[key].shape)}"
        for key in common
        if tuple(values[key].shape) != tuple(weights[key].shape)
    ]:
        problems.append(f"other shapes: {some(wrong)}")
    if problems:
        raise WeightsError(
            f"{source} does not fit a {network.config.backbone} network ({'; '.join(problems)}); "
            "check that --preset names the network the file was trained with."
        )
    if broken := ["/".join(key) for key in common if not np.isfinite(values[key]).all()]:
        raise WeightsError(
            f"{source} has numbers that are not finite in {some(broken)}; take another checkpoint."
        )
    for key in common:
        weights[key].assign(np.asarray(values[key], np.float32))
