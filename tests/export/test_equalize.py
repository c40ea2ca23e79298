"""Equalisation: the same function, activations of one width."""

import numpy as np

from retinaface_tf.export.equalize import equalize
from retinaface_tf.models import build_retinaface


def test_the_function_stays_and_the_ranges_even_out(network, images, expected):
    import keras

    from retinaface_tf.inference.runtimes.keras import KerasRuntime

    # A channel a hundred times wider than its neighbours, as folded batch norms make them.
    stretched = build_retinaface(network.config)
    stretched.set_weights(network.get_weights())
    norm = stretched.get_layer("block1_pointwise_bn")
    depthwise = stretched.get_layer("block2_depthwise_conv")
    factors = np.geomspace(0.1, 10, norm.gamma.shape[0]).astype(np.float32)
    norm.gamma.assign(np.asarray(norm.gamma) * factors)
    norm.beta.assign(np.asarray(norm.beta) * factors)
    depthwise.kernel.assign(np.asarray(depthwise.kernel) / factors[:, None])

    level = equalize(stretched, images)
    for got, want in zip(KerasRuntime(level)(images), expected):
        np.testing.assert_allclose(got, want, atol=2e-4)

    def widths(model):
        part = keras.Model(model.inputs, model.get_layer("block1_pointwise_bn").output)
        values = np.asarray(part(images.astype(np.float32)))
        return np.abs(values).max(axis=(0, 1, 2))

    before, after = widths(stretched), widths(level)
    assert before.max() / before.min() > 30
    assert after.max() / after.min() < 1.01


def test_the_given_network_is_not_touched(network, images):
    before = [np.array(w) for w in network.weights]
    equalize(network, images[:1])
    assert all((a == np.asarray(b)).all() for a, b in zip(before, network.weights))
