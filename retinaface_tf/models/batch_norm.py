"""Batch norm folded away or given other statistics, while the network computes the same."""

from typing import Any

import keras
import numpy as np


def batch_norms(network: keras.Model) -> list[keras.layers.BatchNormalization]:
    """A network's batch normalisations, in its order of layers."""
    return [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]


def restate(norm: keras.layers.BatchNormalization, mean: Any = 0.0, variance: Any = None) -> None:
    """Gives a batch norm other statistics, and the scale and offset with which it computes the same.

    Args:
        norm: changed in place.
        mean, variance: [C] or scalars; by default those with which it neither shifts nor scales.
    """
    gamma, beta, old_mean, old_variance = (np.float64(w) for w in norm.get_weights())
    mean = np.broadcast_to(mean, beta.shape)
    variance = np.broadcast_to(1 - norm.epsilon if variance is None else variance, beta.shape)
    slope = gamma / np.sqrt(old_variance + norm.epsilon)
    gamma = slope * np.sqrt(variance + norm.epsilon)
    norm.set_weights([gamma, beta + slope * (mean - old_mean), mean, variance])


def is_folded(norm: keras.layers.BatchNormalization) -> bool:
    """Whether a batch norm does not normalise: folded into its convolution, or never trained."""
    mean, variance = np.asarray(norm.moving_mean), np.asarray(norm.moving_variance)
    return bool(np.all(mean == 0) and np.all(np.abs(variance - 1) < 2 * norm.epsilon))


def offset_values(bias: np.ndarray, epsilon: float) -> dict[str, np.ndarray]:
    """The weights, by name, of a batch norm that only adds a bias [C] it was folded into."""
    return {
        "gamma": np.ones_like(bias),
        "beta": bias,
        "moving_mean": np.zeros_like(bias),
        "moving_variance": np.full_like(bias, 1 - epsilon),
    }
