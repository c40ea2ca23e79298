"""The variant of batch norm for training beside Keras' own layer, and the files they leave."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.layers.batch_norm import TrainingBatchNormalization, training_batch_norm
from retinaface_tf.models import build_retinaface
from retinaface_tf.models.batch_norm import batch_norms as norms
from retinaface_tf.models.parts import freeze
from retinaface_tf.weights.hdf5 import save_weights

CONFIG = RetinaFaceConfig(channels=8)


def built(weights=None, *, fused=True, fixed=False):
    """A network with a frozen stem; of the same weights as another one."""
    keras.utils.set_random_seed(1)
    with training_batch_norm() if fused else contextlib.nullcontext():
        network = build_retinaface(CONFIG)
    for layer in norms(network):
        layer.fixed = fixed
    if weights is not None:
        network.set_weights(weights)
    freeze(network, ("stem",))
    return network


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
    """The same weights twice; the second network with the fused kernel."""
    networks = [built(fused=False), built()]
    assert [type(n) for n in norms(networks[0])] == [keras.layers.BatchNormalization] * 47
    assert [type(n) for n in norms(networks[1])] == [TrainingBatchNormalization] * 47
    return networks


def test_a_step_is_that_of_keras(pair, rng):
    images = rng.integers(0, 256, (3, 64, 96, 3)).astype(np.float32)
    (want, want_weights), (got, got_weights) = (learn(network, images) for network in pair)
    for a, b in zip(want, got):
        np.testing.assert_allclose(b, a, rtol=1e-2, atol=2e-4 * np.abs(a).max() + 1e-7)
    for a, b in zip(want_weights, got_weights):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5)
    # Statistics moved where layers learn, and only there.
    means = {layer.name: np.abs(np.asarray(layer.moving_mean)).max() for layer in norms(pair[1])}
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


@pytest.mark.parametrize("reason", ["float64", "synchronised"])
def test_what_the_kernel_cannot_do_stays_with_keras(reason, rng, monkeypatch):
    monkeypatch.setattr(tf.raw_ops, "FusedBatchNormV3", None)
    policy = keras.config.dtype_policy()
    if reason == "float64":
        keras.config.set_dtype_policy("float64")
    try:
        network = built()
    finally:
        keras.config.set_dtype_policy(policy)
    for layer in norms(network):
        layer.synchronized = reason == "synchronised"
    images = rng.integers(0, 256, (2, 32, 32, 3)).astype(np.float32)
    plain = built(network.get_weights(), fused=False)
    for training in (True, False):
        found = network(images, training=training)
        want = plain(images, training=training)
        for name, value in want.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=1e-3)


def random_statistics(rng):
    """Weights of the network with any statistics, so that a batch's own are others."""
    network = built(fused=False)
    for layer in norms(network):
        values = [rng.normal(0, 1, w.shape) for w in layer.get_weights()[:3]]
        layer.set_weights([*values, rng.uniform(0.5, 2, layer.moving_variance.shape)])
    return network.get_weights()


def test_fixed_statistics_stay_and_the_rest_learns(rng):
    """Training then computes what inference does; scale and offset still move."""
    network = built(random_statistics(rng), fixed=True)
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


@pytest.mark.parametrize(
    "variant", [{}, pytest.param({"fixed": True}, marks=pytest.mark.slow)], ids=str
)
def test_files_are_those_of_plain_batch_norm(variant, tmp_path):
    """The same names inside, and Keras alone reads the network of a `.keras` file."""

    def names(path):
        found = []
        with h5py.File(path) as file:
            file.visit(found.append)
        return found

    plain, network = built(fused=False), built(**variant)
    save_weights(plain, tmp_path / "plain.weights.h5")
    save_weights(network, tmp_path / "variant.weights.h5")
    assert names(tmp_path / "plain.weights.h5") == names(tmp_path / "variant.weights.h5")
    plain.load_weights(tmp_path / "variant.weights.h5")
    assert [v.path for v in network.variables] == [v.path for v in plain.variables]
    network.save(tmp_path / "variant.keras")
    again = keras.saving.load_model(tmp_path / "variant.keras")
    assert {type(layer) for layer in norms(again)} == {keras.layers.BatchNormalization}
    for a, b in zip(network.get_weights(), again.get_weights()):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_jax_computes_with_the_variants_too():
    program = """
import keras, numpy as np
from retinaface_tf.layers.batch_norm import training_batch_norm
from retinaface_tf.models import build_retinaface
from retinaface_tf.models.batch_norm import batch_norms as norms
from retinaface_tf.config import RetinaFaceConfig
import sys
with training_batch_norm():
    network = build_retinaface(RetinaFaceConfig(channels=8))
for layer in norms(network):
    layer.fixed = True
images = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype("float32")
for name, value in network(images, training=True).items():
    np.testing.assert_array_equal(value, network(images, training=False)[name])
assert "tensorflow" not in sys.modules
"""
    pytest.importorskip("jax")
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
