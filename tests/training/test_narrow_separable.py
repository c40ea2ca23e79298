"""Starting a narrow separable network from a wide one, and batch norm's statistics measured."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest

from retinaface_tf.config import PyramidLevel
from retinaface_tf.errors import ConfigError
from retinaface_tf.geometry.anchors import generate_anchors
from retinaface_tf.geometry.coding import decode_boxes, decode_points
from retinaface_tf.models import build_retinaface
from retinaface_tf.presets import get_preset
from retinaface_tf.training.batch_statistics import measure_statistics
from retinaface_tf.training.config import read_config
from retinaface_tf.training.initialize import initial_network
from retinaface_tf.training.narrow_separable import narrow_separable
from retinaface_tf.weights import save_weights
from tests.conftest import REPOSITORY

WIDE = get_preset("yunet").config


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(1).integers(0, 256, (6, 64, 96, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def wide():
    keras.utils.set_random_seed(3)
    network = build_retinaface(WIDE)
    rng = np.random.default_rng(3)
    for layer in network.layers:
        if layer.name.endswith("_bn"):
            count = len(layer.get_weights()[0])
            ranges = ((0.5, 2), (0.1, 1), (-0.1, 0.1), (0.5, 2))
            layer.set_weights([rng.uniform(a, b, count) for a, b in ranges])
    return network


def outputs(network, pictures):
    return {name: np.asarray(value) for name, value in network(pictures, training=False).items()}


def test_other_anchors_alone_predict_the_same(wide, pictures):
    levels = tuple(
        PyramidLevel(stride=level.stride, anchor_sizes=(level.stride, 2.5 * level.stride))
        for level in WIDE.levels
    )
    other = narrow_separable(wide, dataclasses.replace(WIDE, levels=levels), pictures)
    old, new = outputs(wide, pictures), outputs(other, pictures)
    for name, decode in (("box_deltas", decode_boxes), ("landmark_deltas", decode_points)):
        options = (0.1, 0.2) if name == "box_deltas" else (0.1,)
        shape = (4,) if name == "box_deltas" else (5, 2)
        old_codes, new_codes = (v[name].reshape(6, -1, *shape) for v in (old, new))
        want = np.asarray(decode(old_codes, generate_anchors(WIDE.levels, 64, 96), *options))
        got = np.asarray(decode(new_codes, generate_anchors(levels, 64, 96), *options))
        for slot in (0, 1):
            np.testing.assert_allclose(got[:, slot::2], want, rtol=1e-3, atol=1e-2)
    for slot in (0, 1):
        np.testing.assert_allclose(
            new["class_logits"][:, slot::2], old["class_logits"], rtol=1e-4, atol=1e-4
        )


def test_channels_that_repeat_others_go_at_no_cost(wide, pictures):
    """Sixteen channels of a stage are made copies, scaled, of others: 48 say all there is."""
    source = build_retinaface(WIDE)
    source.set_weights(wide.get_weights())
    rng = np.random.default_rng(7)
    for unit in ("block2_2", "block3_1"):
        copies, originals = np.split(rng.permutation(64)[:32], 2)
        factors = rng.uniform(0.5, 2, 16)
        for name in (f"{unit}_pointwise", f"{unit}_conv", f"{unit}_bn"):
            values = source.get_layer(name).get_weights()
            for value in values:
                # Channels are last but in a depthwise kernel [3, 3, C, 1].
                at = value[:, :, :, 0] if name.endswith("_conv") else value
                at[..., copies] = at[..., originals]
            if name.endswith("_bn"):
                for value in values[:2]:
                    value[copies] *= factors
            source.get_layer(name).set_weights(values)
    narrow = dataclasses.replace(WIDE, backbone="yunet-slim")
    target = narrow_separable(source, narrow, pictures)
    assert target.get_layer("block2_2_bn").gamma.shape == (48,)
    for name, value in outputs(target, pictures).items():
        want = outputs(source, pictures)[name]
        np.testing.assert_allclose(value, want, atol=2e-3 * np.abs(want).max())


def test_wider_or_other_networks_are_refused(wide, pictures):
    slim = build_retinaface(dataclasses.replace(WIDE, backbone="yunet-slim"))
    with pytest.raises(ConfigError, match="cannot widen block2_2 from 48 to 64"):
        narrow_separable(slim, WIDE, pictures)
    with pytest.raises(ConfigError, match=r"init\.narrow"):
        narrow_separable(wide, get_preset("mobilenet0.25-slim").config, pictures)


def test_measured_statistics_keep_the_function(wide, pictures):
    network = build_retinaface(WIDE)
    network.set_weights(wide.get_weights())
    measure_statistics(network, [pictures[:3], pictures[3:]])
    for name, value in outputs(network, pictures).items():
        np.testing.assert_allclose(value, outputs(wide, pictures)[name], rtol=1e-3, atol=1e-3)
    norm = network.get_layer("block4_1_bn")
    seen = np.asarray(keras.Model(network.input, norm.input)(pictures, training=False), np.float64)
    np.testing.assert_allclose(norm.moving_mean, seen.mean(axis=(0, 1, 2)), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(norm.moving_variance, seen.var(axis=(0, 1, 2)), rtol=1e-3)


def test_the_recipe_starts_the_network_from_yunets(tmp_path, wide, pictures):
    """`lite` as it stands, with weights in a file."""
    config = read_config(REPOSITORY / "training/configs/lite.toml")
    assert config.network == get_preset("lite").config
    path = save_weights(wide, tmp_path / "wide.weights.h5")
    network, _ = initial_network(
        config.network, dataclasses.replace(config.init, source=str(path)), lambda: iter([pictures])
    )
    assert network.config == config.network
    norm = network.get_layer("block6_2_bn")
    assert not np.allclose(norm.moving_mean, wide.get_layer("block6_2_bn").moving_mean)
