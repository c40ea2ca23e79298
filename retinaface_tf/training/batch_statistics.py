"""Batch norm's statistics, measured on images with the network's function kept.

Weights that come with batch norm folded into the convolutions have statistics of the identity. Training
normalises by the batch's own, which is another function: a network that starts so would first have to
recover. Measured statistics, and scale and offset changed to match, make both nearly the same; fixed
ones (`layers.batch_norm`) make them the same, whatever the few crops of a batch are like.
"""

from __future__ import annotations

from collections.abc import Iterable

import keras
import numpy as np
from keras import ops

from retinaface_tf.models import RetinaFaceNetwork
from retinaface_tf.models.batch_norm import batch_norms, restate


def measure_statistics(network: RetinaFaceNetwork, batches: Iterable[np.ndarray]) -> None:
    """Gives every batch norm the mean and variance of its input, and keeps what it computes.

    Args:
        network: changed in place.
        batches: RGB images [B, H, W, 3] in 0..255, all of one size.
    """
    norms = batch_norms(network)
    inputs = keras.Model(network.input, {norm.name: norm.input for norm in norms})

    @_compiled
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


def _compiled(function):
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    return tf.function(function)
