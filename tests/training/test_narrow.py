"""Starting a narrow network from a wide one."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from retinaface_tf.config import PyramidLevel, RetinaFaceConfig
from retinaface_tf.errors import ConfigError
from retinaface_tf.geometry.anchors import generate_anchors
from retinaface_tf.geometry.coding import decode_boxes, decode_points
from retinaface_tf.models import build_retinaface
from retinaface_tf.presets import get_preset
from retinaface_tf.training.config import read_config
from retinaface_tf.training.initialize import initial_network
from retinaface_tf.training.narrow import narrow_network
from retinaface_tf.training.step import freeze
from retinaface_tf.weights import save_weights
from tests.conftest import REPOSITORY

WIDE = RetinaFaceConfig(channels=16, negative_slope=0.0)


@pytest.fixture(scope="module")
def wide():
    """A network whose batch norms have seen something, as a trained one's have."""
    network, rng = build_retinaface(WIDE), np.random.default_rng(5)
    for layer in network.layers:
        if layer.name.endswith("_bn"):
            count = len(layer.get_weights()[0])
            layer.set_weights(
                [rng.uniform(a, b, count) for a, b in ((0.5, 2), (-0.3, 1), (-1, 1), (0.5, 2))]
            )
        elif layer.name[2:] in ("_class", "_box", "_landmark"):
            layer.set_weights([rng.normal(0, 0.1, w.shape) for w in layer.get_weights()])
    return network


def outputs(network, rng):
    image = rng.integers(0, 256, (1, 64, 96, 3)).astype(np.float32)
    return {name: np.asarray(value)[0] for name, value in network(image).items()}


def close(a, b):
    return np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())


def test_as_many_channels_are_the_same_network(wide):
    same = narrow_network(wide, WIDE)
    for name, value in outputs(same, np.random.default_rng(1)).items():
        close(value, outputs(wide, np.random.default_rng(1))[name])


def test_dead_channels_are_the_ones_dropped(wide):
    """Half of every group hands on a constant; what is left is the same function inside.

    Zero padding meets the constants at the border only, so cells there are not compared.
    """
    network = build_retinaface(WIDE)
    network.set_weights(wide.get_weights())
    rng = np.random.default_rng(9)
    for layer in network.layers:
        if not layer.name.endswith("_bn") or layer.name[0] != "p":
            continue
        gamma, beta, mean, variance = layer.get_weights()
        dead = np.arange(len(gamma)) % 2 == 0
        # Zero, so that borders agree too; a constant in the 5x5 part, which 1x1 heads alone read.
        constant = 0.05 if layer.name.endswith("5x5_bn") else -0.1
        layer.set_weights(
            [np.where(dead, 1e-9, gamma), np.where(dead, constant, beta), mean, variance]
        )
    narrow = narrow_network(network, dataclasses.replace(WIDE, channels=8))
    image = rng.integers(0, 256, (1, 64, 64, 3)).astype(np.float32)
    expected, found = network(image), narrow(image)
    for name in expected:
        close(np.asarray(found[name]), np.asarray(expected[name]))


def test_heads_for_other_anchors_find_the_same_boxes(wide):
    levels = tuple(
        PyramidLevel(stride=level.stride, anchor_sizes=[1.2 * s for s in level.anchor_sizes])
        for level in WIDE.levels
    )
    config = dataclasses.replace(WIDE, levels=levels, size_variance=0.4, center_variance=0.2)
    other = narrow_network(wide, config)
    expected, found = (outputs(n, np.random.default_rng(1)) for n in (wide, other))
    close(found["class_logits"], expected["class_logits"])
    decoded = []
    for values, c in ((expected, WIDE), (found, config)):
        anchors = generate_anchors(c.levels, 64, 96)
        boxes = decode_boxes(values["box_deltas"], anchors, c.center_variance, c.size_variance)
        points = values["landmark_deltas"].reshape(-1, 5, 2)
        decoded.append((boxes, decode_points(points, anchors, c.center_variance)))
    for a, b in zip(*decoded):
        close(b, a)


def test_more_anchors_take_the_nearest_size(wide):
    _, *rest = WIDE.levels
    levels = (PyramidLevel(stride=8, anchor_sizes=(8, 17, 30)), *rest)
    other = narrow_network(wide, dataclasses.replace(WIDE, levels=levels))
    kernel = other.get_layer("p3_class").get_weights()[0]
    old = wide.get_layer("p3_class").get_weights()[0]
    np.testing.assert_allclose(kernel, np.concatenate([old[..., :2], old], axis=-1))


@pytest.mark.parametrize(
    "changes", [{"negative_slope": 0.1}, {"channels": 32}, {"backbone": "mobilenet0.5"}]
)
def test_other_differences_are_refused(wide, changes):
    with pytest.raises(ConfigError, match=r"init\.narrow"):
        narrow_network(wide, dataclasses.replace(WIDE, **changes))


def test_the_recipe_starts_the_slim_network_from_a_wide_one(tmp_path):
    """`own-slim` as it stands, with weights in a file."""
    config = read_config(REPOSITORY / "training/configs/own-slim.toml")
    assert config.network == get_preset("mobilenet0.25-slim").config and config.init.narrow
    wide = save_weights(build_retinaface("mobilenet0.25-relu"), tmp_path / "wide.weights.h5")
    network, note = initial_network(
        config.network, dataclasses.replace(config.init, source=str(wide))
    )
    assert network.get_layer("p3_merge_conv").kernel.shape == (3, 3, 32, 32)
    assert "32 channels" in note
    assert freeze(network, config.init.freeze) == 14
