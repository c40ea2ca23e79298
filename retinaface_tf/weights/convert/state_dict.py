"""Tensors under their public names -> values for our layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from retinaface_tf.errors import WeightsError
from retinaface_tf.weights.convert.filling import Values, fill_network, some
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
# The classifier of a backbone trained on ImageNet: left out on purpose.
_CLASSIFIER = ("fc.weight", "fc.bias")

# ImageNet training in torchvision's manner: RGB in 0..1, minus this, over this.
_IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


def fill_from_state_dict(
    network: RetinaFaceNetwork, tensors: dict[str, np.ndarray], source: str
) -> None:
    """Fills a network from a detector's state dict in the public layout.

    The public networks take BGR and ours RGB: the stem's input channels are reversed.

    Raises:
        WeightsError: a tensor is missing, left over or of another shape; named with `source`.
    """
    values = _values(network, public_units(network.config), tensors, source)
    values["stem_conv", "kernel"] = values["stem_conv", "kernel"][:, :, ::-1]
    fill_network(network, values, source)


def _values(
    network: RetinaFaceNetwork, units: list[Unit], tensors: dict[str, np.ndarray], source: str
) -> Values:
    """Values for the units' layers, after checking the tensors against them by public name."""
    tensors = {
        name: value for name, value in tensors.items() if name.rpartition(".")[2] != _COUNTER
    }
    places = _places(units)
    missing = [name for name in places if name not in tensors]
    unknown = [name for name in tensors if name not in places]
    values, wrong = {}, []
    for name, (layer, weight) in places.items():
        if name not in tensors:
            continue
        expected = tuple(getattr(network.get_layer(layer), weight).shape)
        value = tensors[name]
        if value.ndim == 4:
            depthwise = expected[3] == 1 and value.shape[1] == 1
            value = value.transpose(2, 3, 0, 1) if depthwise else value.transpose(2, 3, 1, 0)
        if value.shape != expected:
            wrong.append(f"{name} {tuple(tensors[name].shape)}")
        values[layer, weight] = value
    likely = _likely(tensors, network.config.backbone)
    limit = 1 if likely else 3
    problems = [
        f"{len(names)} tensors {what} ({some(names, limit)})"
        for what, names in (
            ("are missing", missing),
            ("have another shape", wrong),
            ("have no place", unknown),
        )
        if names
    ]
    if problems:
        advice = (
            f"it looks like {likely}, so try --preset {likely}"
            if likely
            else "check that it is a RetinaFace detector's state dict in the public layout"
        )
        raise WeightsError(
            f"{source} does not fit a {network.config.backbone} network: {', '.join(problems)}; "
            f"{advice}."
        )
    return values


def _places(units: list[Unit]) -> dict[str, tuple[str, str]]:
    """(layer, weight) by public tensor name."""
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


def _likely(tensors: dict[str, np.ndarray], backbone: str) -> str | None:
    """Another backbone than this one that the stem's kernel speaks for."""
    for name in ("body.stage1.0.0.weight", "body.conv1.weight"):
        if name in tensors and tensors[name].ndim == 4:
            likely = likely_backbone(tensors[name].shape[0], tensors[name].shape[2])
            return None if likely == backbone else likely
    return None


def likely_backbone(filters: int, kernel: int) -> str | None:
    """The backbone whose stem has that many filters of that size."""
    stems = {
        (8, 3): "mobilenet0.25",
        (16, 3): "mobilenet0.5",
        (32, 3): "mobilenet1.0",
        (64, 7): "resnet50",
    }
    return stems.get((filters, kernel))
