"""The dense branch's losses against plain loops in float64."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops

from retinaface_tf.losses.mesh_term import edge_lengths, edge_loss, mesh_loss, vertex_loss
from retinaface_tf.mesh.topology import load_topology

TRIANGLES = np.array([[0, 1, 2], [1, 3, 2], [2, 3, 4]])


@pytest.fixture
def pair(rng):
    return rng.normal(size=(3, 5, 3)), rng.normal(size=(3, 5, 3))


def _vertex_loop(found, target):
    return sum(abs(found[v][k] - target[v][k]) for v in range(len(found)) for k in range(3)) / len(
        found
    )


def _edge_loop(found, target, triangles):
    total = 0.0
    for a, b, c in triangles:
        for i, j in ((a, b), (b, c), (c, a)):
            length = sum((found[i][k] - found[j][k]) ** 2 for k in range(3)) ** 0.5
            wanted = sum((target[i][k] - target[j][k]) ** 2 for k in range(3)) ** 0.5
            total += abs(length - wanted)
    return total / (3 * len(triangles))


def test_the_losses_are_the_papers(pair):
    found, target = pair
    tensors = [ops.convert_to_tensor(v, "float64") for v in pair]
    vertex = ops.convert_to_numpy(vertex_loss(*tensors))
    edge = ops.convert_to_numpy(edge_loss(*tensors, TRIANGLES))
    both = ops.convert_to_numpy(mesh_loss(*tensors, TRIANGLES, edge_weight=1.0))
    for i in range(3):
        assert vertex[i] == pytest.approx(_vertex_loop(found[i], target[i]), rel=1e-12)
        assert edge[i] == pytest.approx(_edge_loop(found[i], target[i], TRIANGLES), rel=1e-9)
        assert both[i] == pytest.approx(vertex[i] + edge[i], rel=1e-12)


def test_the_edge_loss_on_the_whole_topology(rng):
    topology = load_topology()
    found = topology.mean.astype(np.float64) + rng.normal(0, 0.02, topology.mean.shape)
    target = topology.mean.astype(np.float64)
    value = edge_loss(
        ops.convert_to_tensor(found[None]), ops.convert_to_tensor(target[None]), topology.triangles
    )
    expected = _edge_loop(found, target, topology.triangles)
    assert float(value[0]) == pytest.approx(expected, rel=1e-9)


def test_a_moved_mesh_keeps_its_edges(pair):
    found = ops.convert_to_tensor(pair[0])
    assert float(ops.max(edge_loss(found, found + 3.0, TRIANGLES))) < 1e-9
    np.testing.assert_allclose(vertex_loss(found, found + 3.0), 9.0)


def test_edges_of_no_length_have_a_slope(rng):
    import tensorflow as tf

    points = tf.zeros((1, 5, 3))
    with tf.GradientTape() as tape:
        tape.watch(points)
        value = tf.reduce_sum(edge_lengths(points, TRIANGLES))
    assert np.isfinite(tape.gradient(value, points)).all()


def test_a_mirrored_face_has_the_same_loss(rng):
    topology = load_topology()
    found = topology.mean + rng.normal(0, 0.05, topology.mean.shape).astype(np.float32)
    target = topology.mean + rng.normal(0, 0.05, topology.mean.shape).astype(np.float32)
    turned = [topology.flip(v) * np.float32([-1, 1, 1]) for v in (found, target)]
    plain, mirrored = (
        float(mesh_loss(*(ops.convert_to_tensor(v[None]) for v in pair), topology.triangles)[0])
        for pair in ((found, target), turned)
    )
    assert mirrored == pytest.approx(plain, rel=1e-5)
