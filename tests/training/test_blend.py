"""Weights between two networks'."""

import keras
import numpy as np
import pytest

from retinaface_tf import build_retinaface
from retinaface_tf.errors import WeightsError
from training.blend import blend


def made(seed, rng):
    keras.utils.set_random_seed(seed)
    network = build_retinaface("lite")
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            size = layer.gamma.shape
            layer.set_weights([rng.uniform(0.5, 2, size) for _ in range(4)])
    return network


def look(network, images):
    return {k: np.array(v) for k, v in network(images, training=False).items()}


@pytest.mark.parametrize("share", [0, 1])
def test_the_ends_are_the_networks_themselves(share, rng):
    networks = [made(seed, rng) for seed in (0, 1)]
    images = rng.integers(0, 256, (1, 64, 64, 3)).astype(np.float32)
    want = look(networks[share], images)
    for name, value in look(blend(*networks, share), images).items():
        np.testing.assert_allclose(value, want[name], rtol=1e-3, atol=1e-3)


def test_half_way_is_the_mean_of_what_each_channel_does(rng):
    first, second = (made(seed, rng) for seed in (0, 1))
    kernel = np.mean([n.get_layer("stem_conv").get_weights()[0] for n in (first, second)], axis=0)
    slopes, shifts = [], []
    for network in (first, second):
        gamma, beta, mean, variance = network.get_layer("stem_bn").get_weights()
        slope = gamma / np.sqrt(variance + network.get_layer("stem_bn").epsilon)
        slopes.append(slope)
        shifts.append(beta - slope * mean)
    x = rng.normal(0, 1, (1, 2, 2, 16)).astype(np.float32)
    mixed = blend(first, second, 0.5)
    np.testing.assert_allclose(mixed.get_layer("stem_conv").get_weights()[0], kernel, atol=1e-6)
    got = mixed.get_layer("stem_bn")(x, training=False)
    np.testing.assert_allclose(got, x * np.mean(slopes, 0) + np.mean(shifts, 0), atol=1e-4)


def test_other_networks_are_refused(rng):
    with pytest.raises(WeightsError, match="different configurations"):
        blend(build_retinaface("lite"), build_retinaface("mobilenet0.25"), 0.5)
