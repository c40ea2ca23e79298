"""Batch norm with other statistics computes what it computed; a folded one only adds its bias."""

import keras
import numpy as np
import pytest

from retinaface_tf.models.batch_norm import batch_norms, offset_values, restate


@pytest.fixture
def norm(rng):
    layer = keras.layers.BatchNormalization(epsilon=0.01)
    layer.build((None, 5))
    layer.set_weights([rng.uniform(0.5, 2, 5) for _ in range(4)])
    return layer


def by_hand(norm, x):
    gamma, beta, mean, variance = norm.get_weights()
    return gamma * (x - mean) / np.sqrt(variance + norm.epsilon) + beta


def test_other_statistics_keep_the_function(norm, rng):
    x = rng.normal(0, 3, (7, 5)).astype(np.float32)
    before = by_hand(norm, x)
    restate(norm, mean=rng.normal(0, 1, 5), variance=rng.uniform(0, 2, 5))
    np.testing.assert_allclose(by_hand(norm, x), before, rtol=1e-4, atol=1e-4)
    restate(norm)
    np.testing.assert_allclose(norm(x, training=False), before, rtol=1e-4, atol=1e-4)
    _, _, mean, variance = norm.get_weights()
    np.testing.assert_allclose(mean, 0)
    np.testing.assert_allclose(variance, 0.99)


def test_a_folded_norm_only_adds_its_bias(norm, rng):
    bias = rng.normal(0, 1, 5).astype(np.float32)
    values = offset_values(bias, norm.epsilon)
    for name, value in values.items():
        getattr(norm, name).assign(value)
    x = rng.normal(0, 3, (7, 5)).astype(np.float32)
    np.testing.assert_allclose(norm(x, training=False), x + bias, rtol=1e-5, atol=1e-5)
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(5), norm])
    assert batch_norms(model) == [norm]
