"""The dense head that comes with the package."""

from __future__ import annotations

import numpy as np
import pytest

from retinaface_tf.errors import WeightsError
from retinaface_tf.mesh.topology import five_of_vertices, load_topology
from retinaface_tf.models import build_retinaface
from retinaface_tf.presets import get_preset
from retinaface_tf.weights.dense_head_file import fill_head, head_digest, packaged_head, save_head

NAME = get_preset("mobilenet0.25-mesh").dense_head


@pytest.fixture(scope="module")
def network():
    network = build_retinaface("mobilenet0.25-mesh")
    fill_head(network, packaged_head(NAME), NAME)
    return network


def test_it_is_small_and_fits_its_preset(network):
    assert len(packaged_head(NAME)) < 3_000_000
    assert all(np.isfinite(w).all() for w in network.dense_head.get_weights())
    assert len(head_digest(NAME)) == 12


def assert_frontal(found, mean):
    """A face looks at the camera and is as large as the mean one.

    Distances are in face sizes; rotation and scale are those of the best fit (Kabsch).
    """
    assert np.linalg.norm(found - mean, axis=1).mean() < 0.12
    found, mean = found - found.mean(axis=0), mean - mean.mean(axis=0)
    u, spread, v = np.linalg.svd(found.T @ mean)
    assert np.degrees(np.arccos(np.clip((np.trace(u @ v) - 1) / 2, -1, 1))) < 5
    assert 0.8 < spread.sum() / (mean**2).sum() < 1.25


@pytest.mark.parametrize("axis", ["smaller", 0, 1, 2])
def test_a_small_or_turned_face_is_not_frontal(axis):
    mean = load_topology().mean
    turn = 0.5 * np.eye(3)
    if axis != "smaller":
        cosine, sine = np.cos(np.radians(40)), np.sin(np.radians(40))
        turn = np.roll(np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]]), axis, (0, 1))
    with pytest.raises(AssertionError):
        assert_frontal(mean @ turn.T, mean)


def test_a_frontal_face_stays_one(network):
    """Without features the head moves the mean face that the points pose only a little."""
    mean = load_topology().mean
    points = five_of_vertices(mean)[:, :2].reshape(1, 10)
    config = network.config.dense
    samples = np.zeros((1, config.grid**2, 64), np.float32)
    found = np.asarray(network.dense_head(samples, points, np.array([0])))[0]
    assert_frontal(found, mean)


def test_saved_and_filled_again(network, tmp_path):
    save_head(network, tmp_path / "head.npz", {})
    other = build_retinaface("mobilenet0.25-mesh")
    fill_head(other, (tmp_path / "head.npz").read_bytes(), "head.npz")
    for one, two in zip(network.dense_head.get_weights(), other.dense_head.get_weights()):
        np.testing.assert_array_equal(one, two)


def test_damage_and_misfits_are_said(network, tmp_path):
    with pytest.raises(WeightsError, match="damaged"):
        fill_head(network, packaged_head(NAME)[:-500], "cut.npz")
    with pytest.raises(WeightsError, match="another network"):
        fill_head(build_retinaface("mobilenet0.25"), packaged_head(NAME), "head.npz")
