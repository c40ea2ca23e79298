"""Where a network's weights start."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.errors import ConfigError
from retinaface_tf.models import RetinaFaceNetwork, build_retinaface
from retinaface_tf.models.batch_norm import batch_norms, is_folded, restate
from retinaface_tf.models.parts import PARTS, freeze, layers_of, part_of
from retinaface_tf.presets import list_presets
from retinaface_tf.training.config import InitConfig

# Batches of images that statistics are measured on.
_STATISTICS_BATCHES = 50


def initial_network(
    config: RetinaFaceConfig,
    init: InitConfig,
    batches: Callable[[], Iterator[np.ndarray]] = lambda: iter(()),
) -> tuple[RetinaFaceNetwork, str]:
    """A network as `init` says, and one line that says where its weights came from.

    Args:
        batches: gives images [B, H, W, 3] in 0..255 such as it will be trained on.

    Raises:
        ConfigError: a part has another name, or `init.freeze` matches no layer.
        WeightsError: the source is missing, damaged or of another network.
    """
    unknown = set(init.keep) - set(PARTS)
    if unknown:
        raise ConfigError(
            f"init.keep has {sorted(unknown)[0]!r}; the parts are {', '.join(PARTS)}."
        )
    network = build_retinaface(config)
    freeze(network, init.freeze)
    note, copied = "weights: random", set()
    if init.source == "imagenet":
        from retinaface_tf.training.imagenet import fill_imagenet_backbone

        note = fill_imagenet_backbone(network)
    elif init.source != "random":
        copied = copy_parts(open_source(config, init.source), network, init.keep, init.fresh)
        note = f"weights: {len(copied)} layers ({', '.join(init.keep)}) from {init.source}"
    norms = batch_norms(network)
    folded = [norm for norm in norms if norm.name in copied and norm.trainable and is_folded(norm)]
    if folded and init.fix_statistics is None:
        note += f"; {len(folded)} batch norms are folded into convolutions and stay so"
    for norm in folded if init.fix_statistics is None else norms:
        norm.fixed = init.fix_statistics is not False
    if init.measure_statistics or (folded and init.fix_statistics is False):
        measure_statistics(network, itertools.islice(batches(), _STATISTICS_BATCHES))
    return network, note


def open_source(config: RetinaFaceConfig, source: str) -> RetinaFaceNetwork:
    """A trained network: of a preset, a file of ours, or one that `weights convert` reads.

    Args:
        config: of files that do not contain their own.

    Raises:
        ConfigError: the preset has no weights.
        WeightsError: the file is missing, damaged or of another network.
    """
    if source in list_presets():
        from retinaface_tf.weights.choose_file import load_preset

        return load_preset(source)
    from retinaface_tf.weights.convert.convert import convert_weights
    from retinaface_tf.weights.load import load_weights, own_format, require_file

    path = require_file(Path(source))
    return load_weights(path) if own_format(path) else convert_weights(path, config)


def copy_parts(
    source: RetinaFaceNetwork, target: RetinaFaceNetwork, parts, fresh: tuple[str, ...] = ()
) -> set[str]:
    """Copies the weights of layers of the same name, but for those `fresh`; returns the names.

    Raises:
        ConfigError: a chosen layer of the target has none, or one of another shape, in the source.
    """
    theirs = {layer.name: layer for layer in layers_of(source)}
    copied = set()
    for layer in layers_of(target):
        if not layer.weights or part_of(layer.name) not in parts or layer.name.startswith(fresh):
            continue
        other = theirs.get(layer.name)
        if other is None or [w.shape for w in other.weights] != [w.shape for w in layer.weights]:
            raise ConfigError(
                f"The weights to start from have no layer {layer.name} of this network's shape; "
                f"name it in init.fresh, or leave {part_of(layer.name)!r} out of init.keep."
            )
        layer.set_weights(other.get_weights())
        copied.add(layer.name)
    return copied


def measure_statistics(network: RetinaFaceNetwork, batches: Iterable[np.ndarray]) -> None:
    """Gives every batch norm the mean and variance of its input, and keeps what it computes.

    Weights whose batch norm was folded into the convolutions have statistics of the identity. Training
    normalises by the batch's own, which is another function: a network that starts so would first have
    to recover. Measured statistics, and scale and offset changed to match, make both nearly the same;
    fixed ones (`layers.batch_norm`) make them the same, whatever the few crops of a batch are like.

    Args:
        network: changed in place.
        batches: RGB images [B, H, W, 3] in 0..255, all of one size.
    """
    norms = batch_norms(network)
    inputs = keras.Model(network.input, {norm.name: norm.input for norm in norms})

    @tf.function
    def moments(images):
        found = inputs(images, training=False)
        return {name: ops.moments(x, axes=(0, 1, 2)) for name, x in found.items()}

    sums: dict[str, np.ndarray] = {}
    count = 0
    for images in batches:
        for name, (mean, variance) in moments(ops.cast(images, "float32")).items():
            mean, variance = np.asarray(mean, np.float64), np.asarray(variance, np.float64)
            sums[name] = sums.get(name, 0) + np.stack([mean, variance + mean**2])
        count += 1
    for norm in norms:
        mean, square = sums[norm.name] / count
        restate(norm, mean, np.maximum(square - mean**2, 0))
