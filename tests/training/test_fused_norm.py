"""The fused kernel of batch norm beside Keras' own layer."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.models import build_retinaface
from retinaface_tf.models.parts import freeze
from retinaface_tf.training.batch_statistics import fix_statistics
from retinaface_tf.training.fused_norm import use_fused_norm

CONFIG = RetinaFaceConfig(channels=8)


def learn(network, images):
    """One step down a plain loss: gradients, and all weights after it."""
    variables = network.trainable_variables
    with tf.GradientTape() as tape:
        outputs = network(images, training=True)
        loss = sum(tf.reduce_mean(value**2) for value in outputs.values())
    gradients = tape.gradient(loss, [v.value for v in variables])
    return [np.asarray(g) for g in gradients], [np.asarray(w) for w in network.weights]


@pytest.fixture
def pair():
    """The same weights twice, the stem frozen; the second network with the fused kernel."""
    keras.utils.set_random_seed(1)
    networks = [build_retinaface(CONFIG) for _ in range(2)]
    networks[1].set_weights(networks[0].get_weights())
    for network in networks:
        freeze(network, ("stem",))
    assert use_fused_norm(networks[1]) == 47
    return networks


def test_a_step_is_that_of_keras(pair, rng):
    images = rng.integers(0, 256, (3, 64, 96, 3)).astype(np.float32)
    (want, want_weights), (got, got_weights) = (learn(network, images) for network in pair)
    for a, b in zip(want, got):
        np.testing.assert_allclose(b, a, rtol=1e-2, atol=2e-4 * np.abs(a).max() + 1e-7)
    for a, b in zip(want_weights, got_weights):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5)
    # Statistics moved where layers learn, and only there.
    moved = [layer for layer in pair[1].layers if layer.name.endswith("_bn")]
    means = {layer.name: np.abs(np.asarray(layer.moving_mean)).max() for layer in moved}
    assert means.pop("stem_bn") == 0 and min(means.values()) > 0


def test_statistics_are_those_of_the_batch(pair, rng):
    images = rng.integers(0, 256, (2, 32, 32, 3)).astype(np.float32)
    layer = pair[1].get_layer("block1_depthwise_bn")
    seen = np.float64(keras.Model(pair[1].input, layer.input)(images, training=True))
    pair[1](images, training=True)
    np.testing.assert_allclose(layer.moving_mean, 0.1 * seen.mean(axis=(0, 1, 2)), rtol=1e-3)
    want = 0.9 + 0.1 * seen.var(axis=(0, 1, 2))
    np.testing.assert_allclose(layer.moving_variance, want, rtol=1e-4)


def test_inference_uses_the_stored_statistics(pair, rng):
    images = rng.integers(0, 256, (1, 32, 64, 3)).astype(np.float32)
    want, got = (network(images, training=False) for network in pair)
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-4, atol=1e-4)


def test_double_precision_stays_with_keras():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    try:
        assert use_fused_norm(build_retinaface(CONFIG)) == 0
    finally:
        keras.config.set_dtype_policy(policy)


def test_fixed_statistics_stay_and_the_rest_learns(pair, rng):
    """Training then computes what inference does; scale and offset still move."""
    network = pair[1]
    for layer in network.layers:
        if layer.name.endswith("_bn"):
            statistics = [rng.normal(0, 1, w.shape) for w in layer.get_weights()[:3]]
            layer.set_weights([*statistics, rng.uniform(0.5, 2, layer.moving_variance.shape)])
    assert fix_statistics(network) == 47
    images = rng.integers(0, 256, (2, 64, 64, 3)).astype(np.float32)
    for name, value in network(images, training=True).items():
        np.testing.assert_array_equal(value, network(images, training=False)[name])
    layer = network.get_layer("block1_depthwise_bn")
    before = [np.array(w) for w in layer.get_weights()]
    gradients, _ = learn(network, images)
    for a, b in zip(before, layer.get_weights()):
        np.testing.assert_array_equal(a, b)
    names = [v.path for v in network.trainable_variables]
    for name in ("block1_depthwise_bn/gamma", "block1_depthwise_bn/beta"):
        assert np.abs(gradients[names.index(name)]).max() > 0
