"""Tensors under their public names -> values for our layers."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from retinaface_tf.config import BGR, ImageFormat, RetinaFaceConfig
from retinaface_tf.errors import WeightsError
from retinaface_tf.presets import get_preset, list_presets
from retinaface_tf.weights.convert.filling import (
    Place,
    fill_network,
    likely_backbone,
    our_kernel,
    some,
)
from retinaface_tf.weights.convert.public_layout import Unit, common_name, public_units

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
# Convolution and batch norm that see the image.
_STEMS = (
    ("body.stage1.0.0", "body.stage1.0.1"),
    ("body.conv1", "body.bn1"),
    ("body.features.0.0", "body.features.0.1"),
)
_DIVIDED = 200


def fill_from_state_dict(
    network: RetinaFaceNetwork,
    tensors: dict[str, np.ndarray],
    source: str,
    images: ImageFormat,
) -> None:
    """Fills a network from a detector's state dict in the public layout.

    Raises:
        WeightsError: a tensor is missing, left over or of another shape; named with `source`.
    """
    places = _places(public_units(network.config))
    trained = any(np.max(v) > 0 for n, v in tensors.items() if n.rpartition(".")[2] == _COUNTER)
    tensors = {n: v for n, v in tensors.items() if n.rpartition(".")[2] != _COUNTER}
    twice = Counter(map(common_name, tensors))
    if repeated := [name for name, count in twice.items() if count > 1]:
        raise WeightsError(
            f"{source} holds {some(repeated)} twice, under names of two programs; keep one of them."
        )
    tensors = {
        common_name(name): our_kernel(value) if value.ndim == 4 else value
        for name, value in tensors.items()
    }
    kernels = [value.shape for value in tensors.values()]
    # A file of another network is told so.
    if trained and likely_backbone(kernels) in (None, network.config.backbone):
        _require_scale(tensors, network.config, images, source)
    fill_network(
        network,
        {places[name]: value for name, value in tensors.items() if name in places},
        source,
        images=images,
        names={place: name for name, place in places.items()},
        unknown=[name for name in tensors if name not in places],
        kernels=kernels,
    )


def _require_scale(
    tensors: dict[str, np.ndarray], config: RetinaFaceConfig, images: ImageFormat, source: str
) -> None:
    """Refuses a file whose first batch norm saw images of another scale than the given ones.

    The variance behind the stem is the images' variance times the kernel's sum of squares, and more
    where pixels resemble their neighbours: 7,000 to 25,000 times in public trainings on 0..255, 2.5
    times in one on images divided by their deviation.
    """
    for convolution, norm in _STEMS:
        kernel, variance = tensors.get(f"{convolution}.weight"), tensors.get(f"{norm}.running_var")
        if kernel is None or variance is None or kernel.shape[-1:] != variance.shape:
            continue
        divided = np.median(variance / np.square(kernel).sum((0, 1, 2))) < _DIVIDED
        if divided != (images.deviation != BGR.deviation):
            ours = "0..255" if divided else "divided by their deviation"
            theirs = "divided by their deviation" if divided else "0..255"
            raise WeightsError(
                f"{source} was trained on images {theirs}, as its first batch norm shows, and the "
                f"preset is of images {ours}: {_remedy(config, divided)}."
            )


def _remedy(config: RetinaFaceConfig, divided: bool) -> str:
    """Where weights of this network belong that saw images of the other scale."""
    for preset in map(get_preset, list_presets()):
        same = dataclasses.replace(preset.config, pixel_mean=config.pixel_mean) == config
        if same and divided == (preset.trained_on.deviation != BGR.deviation):
            return f"--preset {preset.name} is of such images"
    return (
        f"no preset of a {config.backbone} network is of such images, so convert it in Python, by "
        "`convert_weights` with `images` and the mean of its training (docs/model-zoo.md)"
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
