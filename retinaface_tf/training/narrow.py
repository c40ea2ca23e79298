"""A narrower network started from a trained wide one: the channels that matter most are kept.

Pyramid, context modules and heads of the public networks have 64 channels. To start one of 32, each
group of channels that has to stay together is ranked by what its channels hand on: the mean square of
the activation, which batch norm's parameters give, times the square of the kernels that read it
(a data-free form of Li et al. 2017, "Pruning filters for efficient convnets"). What the dropped
channels handed on in the mean is taken up by the batch norm behind. Heads move to other anchors by
rescaling their codes.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import NamedTuple

import numpy as np

from retinaface_tf.config import PyramidLevel, RetinaFaceConfig
from retinaface_tf.errors import ConfigError
from retinaface_tf.layers.heads import HEAD_WIDTHS
from retinaface_tf.models import RetinaFaceNetwork, build_retinaface

# Layers of a context module, by the part of the output they make.
_FIELDS = ("3x3", "5x5", "7x7")


class _Read(NamedTuple):
    """A convolution that reads a group's channels, from its input channel `first` on."""

    layer: str
    first: int


def narrow_network(source: RetinaFaceNetwork, config: RetinaFaceConfig) -> RetinaFaceNetwork:
    """A network of a narrower configuration with what it can keep of a trained one.

    Args:
        source: trained; plain convolutions, the same backbone and strides, heads of its own on
            every level.
        config: with fewer or as many channels, and any anchor sizes.

    Raises:
        ConfigError: the two networks differ in something else.
    """
    _check(source.config, config)
    target = build_retinaface(config)
    weights = {layer.name: layer.get_weights() for layer in source.layers if layer.weights}
    kept = {
        group: _choose(weights, makers, readers, config.channels / source.config.channels)
        for group, (makers, readers) in _groups(source.config).items()
    }
    inputs = defaultdict(list)
    outputs: dict[str, np.ndarray] = {}
    for group, (makers, readers) in _groups(source.config).items():
        for reader in readers:
            inputs[reader.layer].append((reader.first, len(weights[f"{makers[0]}_bn"][0]), group))
        outputs |= dict.fromkeys(makers, kept[group])
    moved = {
        name: _cut_inputs(weights, name, sorted(parts), kept, _groups(source.config))
        for name, parts in inputs.items()
    }
    for layer in target.layers:
        name = layer.name.removesuffix("_conv").removesuffix("_bn")
        if not layer.weights or layer.name not in weights:
            continue
        values = weights[layer.name]
        if layer.name.endswith("_conv") and name in outputs:
            kernel = moved[name][0] if name in moved else values[0]
            values = [kernel[..., outputs[name]]]
        elif layer.name.endswith("_bn") and name in outputs:
            values = [value[outputs[name]] for value in values]
            if name in moved:
                values[2] = values[2] - moved[name][1][outputs[name]]
        elif name in moved:
            values = _move_head(layer.name, moved[name], values[1], source.config, config)
        layer.set_weights(values)
    return target


def _check(source: RetinaFaceConfig, config: RetinaFaceConfig) -> None:
    plain = all(
        not (c.deformable or c.cascade or c.dense or c.shared_heads) for c in (source, config)
    )
    same = source.backbone == config.backbone and source.negative_slope == config.negative_slope
    strides = [[level.stride for level in c.levels] for c in (source, config)]
    if not plain or not same or strides[0] != strides[1] or strides[0][-1] > 32:
        raise ConfigError(
            "init.narrow needs a source that differs in channels and anchor sizes only, without "
            "deformable convolutions, cascade, dense branch or shared heads."
        )
    if config.channels > source.channels:
        raise ConfigError(
            f"init.narrow cannot make {config.channels} channels of the source's {source.channels}."
        )


def _groups(config: RetinaFaceConfig) -> dict[str, tuple[list[str], list[_Read]]]:
    """Channels that are kept or dropped together: the convolutions that make and that read them."""
    groups: dict[str, tuple[list[str], list[_Read]]] = {}
    indices = [level.index for level in config.levels]
    coarsest, half, quarter = indices[-1], config.channels // 2, config.channels // 4

    def context(index: int) -> list[_Read]:
        return [_Read(f"p{index}_context_{part}", 0) for part in ("3x3", "shared")]

    for index in indices:
        context_name = f"p{index}_context"
        if index == coarsest:
            makers, readers = [f"p{index}_lateral"], context(index)
        else:
            makers, readers = [f"p{index}_merge"], context(index)
        if index > indices[0]:
            # What flows on is added to the finer level's lateral map, and merged.
            makers = [*makers, f"p{index - 1}_lateral"]
            readers = [*readers, _Read(f"p{index - 1}_merge", 0)]
        groups[f"p{index}"] = makers, readers
        heads = [f"p{index}_{head}" for head in HEAD_WIDTHS]
        for part, first in zip(_FIELDS, (0, half, half + quarter)):
            readers = [_Read(head, first) for head in heads]
            groups[f"{context_name}_{part}"] = [f"{context_name}_{part}"], readers
        shared = [_Read(f"{context_name}_{part}", 0) for part in ("5x5", "7x7_middle")]
        groups[f"{context_name}_shared"] = [f"{context_name}_shared"], shared
        groups[f"{context_name}_7x7_middle"] = (
            [f"{context_name}_7x7_middle"],
            [_Read(f"{context_name}_7x7", 0)],
        )
    return groups


def _choose(weights, makers: list[str], readers: list[_Read], share: float) -> np.ndarray:
    """int [K], rising: the channels of a group that are kept."""
    energy = sum(_moments(weights[f"{maker}_bn"])[1] for maker in makers)
    count = len(energy)
    worth = np.zeros(count)
    for reader in readers:
        kernel, scale = _kernel(weights, reader.layer), _out_scale(weights, reader.layer)
        part = kernel[:, :, reader.first : reader.first + count] * scale
        worth += np.square(part).sum(axis=(0, 1, 3))
    return np.sort(np.argsort(-energy * worth, kind="stable")[: round(share * count)])


def _kernel(weights, layer: str) -> np.ndarray:
    return weights[f"{layer}_conv" if f"{layer}_conv" in weights else layer][0]


def _out_scale(weights, layer: str) -> np.ndarray | float:
    if f"{layer}_bn" not in weights:
        return 1.0
    gamma, _, _, variance = weights[f"{layer}_bn"]
    return gamma / np.sqrt(variance + 1e-5)


def _moments(batch_norm) -> tuple[np.ndarray, np.ndarray]:
    """Mean and mean square of relu(x) for x normal with batch norm's output mean and deviation."""
    gamma, beta = batch_norm[:2]
    deviation = np.maximum(np.abs(gamma), 1e-6)
    ratio = beta / deviation
    below = np.array([0.5 * (1 + math.erf(r / math.sqrt(2))) for r in ratio])
    density = np.exp(-0.5 * ratio**2) / math.sqrt(2 * math.pi)
    mean = beta * below + deviation * density
    square = (beta**2 + deviation**2) * below + beta * deviation * density
    return mean, np.maximum(square, 0)


def _cut_inputs(weights, layer, parts, kept, groups) -> tuple[np.ndarray, np.ndarray]:
    """A kernel [h, w, kept inputs, O] and what its dropped inputs add to each output in the mean."""
    kernel = _kernel(weights, layer)
    chosen, dropped_sum = [], np.zeros(kernel.shape[-1])
    for first, count, group in parts:
        chosen.append(first + kept[group])
        dropped = np.setdiff1d(np.arange(count), kept[group])
        mean = sum(_moments(weights[f"{maker}_bn"])[0] for maker in groups[group][0])
        taps = kernel[:, :, first + dropped].sum(axis=(0, 1))
        dropped_sum += mean[dropped] @ taps
    return kernel[:, :, np.concatenate(chosen)], dropped_sum


def _move_head(name, moved, bias, source: RetinaFaceConfig, target: RetinaFaceConfig):
    """Kernel and bias of a 1x1 head for other anchors: each takes the nearest size's, rescaled."""
    kernel, added = moved
    index, head = int(name[1 : name.index("_")]), name[name.index("_") + 1 :]
    taken, scale, shift = head_for_anchors(head, index, source, target)
    return [kernel[..., taken] * scale, (bias + added)[taken] * scale + shift]


def head_for_anchors(
    head: str, index: int, source: RetinaFaceConfig, target: RetinaFaceConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How a head's outputs for some anchors become those for others on a level.

    Each new anchor takes the outputs of the old one nearest in size, rescaled to predict the same.

    Args:
        head: one of `HEAD_WIDTHS`.
        index: the level's number.
        source, target: configurations with the old and with the new anchors.

    Returns:
        Three [outputs of the new head]: numbers of the old outputs to take, factors, shifts.
    """
    width = HEAD_WIDTHS[head]
    old, new = (_level(c, index).anchor_sizes for c in (source, target))
    taken, scales, shifts = [], [], []
    for size in new:
        nearest = int(np.argmin([abs(math.log(size / other)) for other in old]))
        taken.append(np.arange(nearest * width, (nearest + 1) * width))
        scale, shift = _recode(head, old[nearest] / size, source, target)
        scales.append(scale)
        shifts.append(shift)
    return np.concatenate(taken), np.concatenate(scales), np.concatenate(shifts)


def _recode(head: str, ratio: float, source: RetinaFaceConfig, target: RetinaFaceConfig):
    """Factors and shifts that turn a code for one anchor into that for one `1 / ratio` as large."""
    if head == "class":
        return np.ones(2), np.zeros(2)
    center = ratio * source.center_variance / target.center_variance
    if head == "landmark":
        return np.full(10, center), np.zeros(10)
    size = source.size_variance / target.size_variance
    shift = math.log(ratio) / target.size_variance
    return np.array([center, center, size, size]), np.array([0, 0, shift, shift])


def _level(config: RetinaFaceConfig, index: int) -> PyramidLevel:
    return next(level for level in config.levels if level.index == index)
