"""Tensors under their public names -> values for our layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from retinaface_tf.weights.convert.filling import Place, fill_network, our_kernel
from retinaface_tf.weights.convert.public_layout import Unit, public_units

if TYPE_CHECKING:
    from retinaface_tf.models import RetinaFaceNetwork

# PyTorch's names of a batch norm's numbers, and Keras'.
_NORM = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
# Counts the training steps a batch norm saw; no part of the network's function.
_COUNTER = "num_batches_tracked"
_STEMS = ("body.stage1.0.0.weight", "body.conv1.weight")


def fill_from_state_dict(
    network: RetinaFaceNetwork, tensors: dict[str, np.ndarray], source: str
) -> None:
    """Fills a network from a detector's state dict in the public layout.

    Raises:
        WeightsError: a tensor is missing, left over or of another shape; named with `source`.
    """
    places = _places(public_units(network.config))
    tensors = {n: v for n, v in tensors.items() if n.rpartition(".")[2] != _COUNTER}
    stem = next((tensors[n].shape[::2][:2] for n in _STEMS if n in tensors), None)
    fill_network(
        network,
        {
            places[name]: our_kernel(value) if value.ndim == 4 else value
            for name, value in tensors.items()
            if name in places
        },
        source,
        names={place: name for name, place in places.items()},
        unknown=[name for name in tensors if name not in places],
        stem=stem,
    )


def _places(units: list[Unit]) -> dict[str, Place]:
    """Our weights by public tensor name."""
    places = {}
    for unit in units:
        if unit.norm is None:
            places[f"{unit.convolution}.weight"] = (unit.layer, "kernel")
            places[f"{unit.convolution}.bias"] = (unit.layer, "bias")
            continue
        places[f"{unit.convolution}.weight"] = (f"{unit.layer}_conv", "kernel")
        for public, ours in _NORM.items():
            places[f"{unit.norm}.{public}"] = (f"{unit.layer}_bn", ours)
    return places
