"""A network whose batch norm is folded into its convolutions learns on from the function it has."""

from __future__ import annotations

import numpy as np
import pytest

from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.layers.batch_norm import training_batch_norm
from retinaface_tf.models import build_retinaface
from retinaface_tf.models.batch_norm import batch_norms, restate
from retinaface_tf.training.config import InitConfig
from retinaface_tf.training.initialize import initial_network
from retinaface_tf.weights.hdf5 import save_weights

CONFIG = RetinaFaceConfig(channels=8)


def source(folder, rng, *, folded: bool) -> str:
    """A file of a network with any scales and offsets, and statistics of the identity or others."""
    network = build_retinaface(CONFIG)
    for norm in batch_norms(network):
        count = norm.gamma.shape[0]
        values = rng.uniform(0.5, 1.5, (4, count))
        values[1:3] -= 1
        norm.set_weights(values)
        if folded:
            restate(norm)
    return str(save_weights(network, folder / "start.weights.h5"))


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (2, 64, 64, 3)).astype(np.float32)


def start(images, **init):
    with training_batch_norm():
        return initial_network(CONFIG, InitConfig(**init), lambda: iter([images]))


def change(network, images) -> float:
    """How far what training computes is from what inference does, in parts of its spread."""
    learning, trained = (network(images, training=mode) for mode in (True, False))
    return max(float(np.std(learning[k] - trained[k]) / np.std(trained[k])) for k in trained)


def test_training_starts_from_the_function_of_folded_weights(tmp_path, rng, images):
    file = source(tmp_path, rng, folded=True)
    network, note = start(images, source=file)
    assert change(network, images) == 0
    assert "47 batch norms are folded" in note
    # Asked to normalise all the same, it has statistics to do so by.
    measured, _ = start(images, source=file, fix_statistics=False)
    for name, value in measured(images, training=False).items():
        np.testing.assert_allclose(value, network(images)[name], rtol=1e-2, atol=1e-2)
    norm = measured.get_layer("block1_depthwise_bn")
    assert np.abs(norm.moving_mean).max() > 0 and not norm.fixed


def test_what_starts_anew_or_has_statistics_normalises(tmp_path, rng, images):
    network, note = start(images, source=source(tmp_path, rng, folded=True), keep=("backbone",))
    fixed = {norm.name.startswith(("stem", "block")): norm.fixed for norm in batch_norms(network)}
    assert fixed == {True: True, False: False}
    network, note = start(images, source=source(tmp_path, rng, folded=False))
    assert not any(norm.fixed for norm in batch_norms(network)) and "folded" not in note
    assert change(network, images) > 0.1
    network, _ = start(images, source="random")
    assert not any(norm.fixed for norm in batch_norms(network))
    network, _ = start(images, source="random", fix_statistics=True)
    assert all(norm.fixed for norm in batch_norms(network))
