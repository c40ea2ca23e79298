"""A narrower separable network started from a trained wide one: channels that can be told from others go.

Where a stage's maps get narrower, the 1x1 convolution that reads them is fitted anew, by least
squares on pictures, to make of the kept channels what it made of all; the channels kept are those
without which that goes worst, taken away one by one (channel pruning, He et al. 2017, "Channel
pruning for accelerating very deep neural networks", with backward elimination). Heads move to the
target's anchors as in `narrow`.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np

from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.errors import ConfigError
from retinaface_tf.layers.heads import HEAD_WIDTHS
from retinaface_tf.models import RetinaFaceNetwork, build_retinaface
from retinaface_tf.training.narrow import head_for_anchors

# Places of each picture at which channels are compared.
_PLACES = 400


def narrow_separable(
    source: RetinaFaceNetwork, config: RetinaFaceConfig, pictures: Sequence[np.ndarray]
) -> RetinaFaceNetwork:
    """A network of a narrower configuration that computes nearly the same.

    Args:
        source: trained; separable.
        config: separable, of as many or fewer channels in the backbone, with any anchor sizes.
        pictures: RGB [H, W, 3] in 0..255, for the fit.

    Raises:
        ConfigError: the two networks differ in something else.
    """
    _check(source.config, config)
    target = build_retinaface(config)
    values = {layer.name: layer.get_weights() for layer in source.layers if layer.weights}
    for unit, reader in _narrowed(source, target):
        kept, kernel, bias = _fit(source, values, unit, reader, target, pictures)
        pointwise, offset = values[f"{unit}_pointwise"]
        values[f"{unit}_pointwise"] = [pointwise[..., kept], offset[kept]]
        values[f"{unit}_conv"] = [values[f"{unit}_conv"][0][:, :, kept]]
        values[f"{unit}_bn"] = [value[kept] for value in values[f"{unit}_bn"]]
        values[f"{reader}_pointwise"] = [kernel, bias]
    for level in config.levels:
        for head in HEAD_WIDTHS:
            name = f"p{level.index}_{head}"
            taken, scale, shift = head_for_anchors(head, level.index, source.config, config)
            kernel, bias = values[name]
            values[name] = [kernel[..., taken], bias[taken]]
            kernel, bias = values[f"{name}_spread"]
            values[f"{name}_spread"] = [
                kernel[:, :, taken] * scale[:, None],
                bias[taken] * scale + shift,
            ]
    for layer in target.layers:
        if layer.weights:
            layer.set_weights(values[layer.name])
    return target


def _check(source: RetinaFaceConfig, config: RetinaFaceConfig) -> None:
    same = source.negative_slope == config.negative_slope and source.channels == config.channels
    strides = [[level.stride for level in c.levels] for c in (source, config)]
    families = [c.backbone.partition("-")[0] for c in (source, config)]
    if not (source.separable and same and strides[0] == strides[1] and families[0] == families[1]):
        raise ConfigError(
            "init.narrow makes a separable network of another one that differs in the backbone's "
            "widths and the anchor sizes only."
        )


def _narrowed(source, target) -> list[tuple[str, str]]:
    """Units of the backbone whose maps get narrower, each with the unit that reads them."""
    found = []
    names = [layer.name for layer in target.layers]
    units = [
        name.removesuffix("_bn")
        for name in names
        if name.startswith("block") and name.endswith("_bn")
    ]
    for unit, reader in zip(units, units[1:]):
        wide, narrow = (n.get_layer(f"{unit}_bn").gamma.shape[0] for n in (source, target))
        if narrow > wide:
            raise ConfigError(f"init.narrow cannot widen {unit} from {wide} to {narrow} channels.")
        if narrow < wide:
            found.append((unit, reader))
    return found


def _fit(source, values, unit, reader, target, pictures):
    """Channels of `unit` to keep, and kernel and bias of `reader`'s 1x1 convolution on them."""
    kernel, bias = source.get_layer(f"{reader}_pointwise").get_weights()
    x = _samples(source, f"{reader}_pointwise", pictures)
    wanted = x @ kernel[0, 0] + bias
    ones = np.ones((len(x), 1))
    x = np.concatenate([x, ones], axis=1)
    gram, moment = x.T @ x, x.T @ wanted
    gram += 1e-6 * np.trace(gram) / len(gram) * np.eye(len(gram))
    kept = list(range(kernel.shape[2]))
    while len(kept) > target.get_layer(f"{unit}_bn").gamma.shape[0]:
        inverse = np.linalg.inv(gram[np.ix_([*kept, -1], [*kept, -1])])
        solution = inverse @ moment[[*kept, -1]]
        # What the fit loses when a channel goes, from the inverse as in stepwise regression.
        losses = np.sum(solution[:-1] ** 2, axis=1) / np.diag(inverse)[:-1]
        kept.pop(int(np.argmin(losses)))
    chosen = [*kept, len(gram) - 1]
    solution = np.linalg.solve(gram[np.ix_(chosen, chosen)], moment[chosen])
    fitted, offset = solution[:-1], solution[-1]
    return np.array(kept), fitted[None, None].astype(np.float32), offset.astype(np.float32)


def _samples(network, layer: str, pictures) -> np.ndarray:
    """float64 [places, channels] of a layer's input at seeded places of the pictures."""
    rng = np.random.default_rng(0)
    inputs = keras.Model(network.input, network.get_layer(layer).input)
    found = []
    for picture in pictures:
        values = np.asarray(inputs(picture[None].astype(np.float32), training=False))
        values = values.reshape(-1, values.shape[-1])
        found.append(values[rng.choice(len(values), min(_PLACES, len(values)), replace=False)])
    return np.concatenate(found).astype(np.float64)
