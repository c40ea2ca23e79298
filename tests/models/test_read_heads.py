"""Raw heads: scores are the softmax of the class logits, the rest is the network's own."""

import keras
import numpy as np
import pytest
from keras import ops

from retinaface_tf import build_retinaface
from retinaface_tf.config import DenseConfig, PyramidLevel, RetinaFaceConfig
from retinaface_tf.models.read_heads import raw_heads

LEVELS = tuple(PyramidLevel(stride=s, anchor_sizes=(2 * s, 3 * s)) for s in (8, 16, 32))
NETWORKS = {
    "heads of each level": RetinaFaceConfig(channels=8),
    "shared heads": RetinaFaceConfig(channels=8, levels=LEVELS, shared_heads=True),
    "cascade": RetinaFaceConfig(channels=8, cascade=True),
    "separable": build_retinaface("lite").config,
    "dense": RetinaFaceConfig(channels=8, dense=DenseConfig(vertices=5, reduced=2, rank=2)),
}


def with_random_heads(config, rng):
    network = build_retinaface(config)
    for layer in network.layers:
        if "class" in layer.name:
            for weight in layer.weights:
                weight.assign(rng.normal(0, 1, weight.shape))
    return network


@pytest.mark.parametrize("name", NETWORKS)
def test_scores_are_the_softmax(name, rng):
    network = with_random_heads(NETWORKS[name], rng)
    heads = raw_heads(network)
    images = rng.integers(0, 256, (2, 64, 96, 3)).astype(np.uint8)
    for _ in range(2):
        found = {name: np.asarray(values) for name, values in heads(images).items()}
        want = network(images.astype(np.float32), training=False)
        scores = np.asarray(ops.softmax(want["class_logits"]))[..., 1]
        assert np.ptp(scores) > 0.1
        np.testing.assert_allclose(found["scores"], scores, atol=2e-6)
        assert list(found)[:3] == ["scores", "box_deltas", "landmark_deltas"]
        assert tuple(list(found)[3:]) == network.config.dense_outputs
        for key in list(found)[1:]:
            np.testing.assert_allclose(found[key], want[key], rtol=1e-5, atol=1e-5)
            assert found[key].dtype == np.float32
        # The weights of the moment count.
        for weight in network.weights:
            if "class" in weight.path:
                weight.assign(-1.5 * np.asarray(weight))


def test_a_network_in_half_precision_answers_in_float32(rng):
    config = RetinaFaceConfig(channels=8)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        network = with_random_heads(config, rng)
    finally:
        keras.config.set_dtype_policy(before)
    whole = build_retinaface(config)
    whole.set_weights(network.get_weights())
    images = rng.integers(0, 256, (1, 64, 64, 3)).astype(np.uint8)
    half, exact = raw_heads(network)(images), raw_heads(whole)(images)
    for key, values in half.items():
        assert np.asarray(values).dtype == np.float32
        assert 0 < np.abs(np.asarray(values) - np.asarray(exact[key])).max() < 0.2
