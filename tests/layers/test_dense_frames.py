"""The dense head's arithmetic: frames, sampling, and numpy equal to keras.ops."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops

from retinaface_tf.config import DenseConfig, PyramidLevel, RetinaFaceConfig
from retinaface_tf.geometry.anchors import generate_anchors, level_shapes
from retinaface_tf.geometry.box_coding import decode_points
from retinaface_tf.layers.dense_frames import (
    anchor_frames,
    face_frames,
    from_frames,
    posed_shape,
    regress,
    sample_features,
    sampling_table,
    slots_of_anchors,
    to_frames,
    vertices_of_faces,
)
from retinaface_tf.mesh.pose import head_pose
from retinaface_tf.mesh.topology import five_of_vertices, load_topology
from tests.helpers.shapes import rotation_of_angles

PAPER = RetinaFaceConfig(dense=DenseConfig(vertices=7, reduced=16, rank=5))
FACE = RetinaFaceConfig(
    dense=DenseConfig(vertices=7, frame="face", grid=3, finer=1, reduced=4, hidden=(8,), rank=5)
)
SIZE = (72, 104)


def _weights(config, channels, rng):
    from retinaface_tf.layers.dense_head import DenseHead

    slots = sum(len(level.anchor_sizes) for level in config.levels)
    head = DenseHead(config.dense, slots, channels)
    for weight in head.weights:
        weight.assign(rng.normal(0, 0.3, weight.shape))
    return head, {n: ops.convert_to_numpy(w) for n, w in head.named_weights.items()}


def _faces(config, rng, count=6):
    anchors = generate_anchors(config.levels, *SIZE)
    numbers = rng.integers(0, len(anchors), count)
    corner = rng.uniform(0, 40, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(10, 40, (count, 2))], axis=1)
    landmarks = corner[:, None] + rng.uniform(0, 40, (count, 5, 2))
    return (
        _maps(config, rng, 2),
        rng.integers(0, 2, count),
        numbers,
        anchors,
        boxes.astype(np.float32),
        landmarks.astype(np.float32),
    )


def _maps(config, rng, batch):
    shapes = level_shapes(config.dense_levels, *SIZE)
    return [rng.normal(size=(batch, *shape, 6)).astype(np.float32) for shape in shapes]


@pytest.mark.parametrize("config", [PAPER, FACE], ids=["paper", "face"])
def test_numpy_and_graph_are_equal(config, rng):
    _, weights = _weights(config, 6, rng)
    maps, *inputs = _faces(config, rng)
    found = vertices_of_faces(maps, *inputs, SIZE, weights, config)
    kinds = ["int32", "int32", "float32", "float32", "float32"]
    tensors = [ops.convert_to_tensor(v, k) for v, k in zip(inputs, kinds)]
    shape = [ops.convert_to_tensor(side, "int32") for side in SIZE]
    tensor_weights = {n: ops.convert_to_tensor(w) for n, w in weights.items()}
    tensor_maps = [ops.convert_to_tensor(m) for m in maps]
    in_graph = vertices_of_faces(tensor_maps, *tensors, shape, tensor_weights, config)
    assert found.shape == (6, 7, 3) and np.isfinite(found).all()
    np.testing.assert_allclose(ops.convert_to_numpy(in_graph), found, rtol=2e-4, atol=2e-3)


def test_the_papers_head_is_a_1x1_convolution_on_the_anchors_cell(rng):
    """Against a plain loop in float64: kernel of the anchor's slot on its own cell, deltas as those
    of landmarks, depth by the anchor's size."""
    _, weights = _weights(PAPER, 6, rng)
    anchors = generate_anchors(PAPER.levels, *SIZE)
    maps = _maps(PAPER, rng, 1)
    features = np.concatenate([m.reshape(-1, 6) for m in maps])
    numbers = np.arange(len(anchors))[:: max(1, len(anchors) // 40)]
    slots = slots_of_anchors(PAPER, *SIZE, numbers)
    none = np.zeros((len(numbers), 5, 2), np.float32)
    boxes = np.zeros((len(numbers), 4), np.float32)
    image = np.zeros(len(numbers), int)
    found = vertices_of_faces(maps, image, numbers, anchors, boxes, none, SIZE, weights, PAPER)
    cell, expected_slot, first = [], [], 0
    for position, level in enumerate(PAPER.levels):
        count = -(-SIZE[0] // level.stride) * -(-SIZE[1] // level.stride)
        for k in range(count):
            cell += [first + k] * 2
            expected_slot += [2 * position, 2 * position + 1]
        first += count
    w = {name: value.astype(np.float64) for name, value in weights.items()}
    for row, number in enumerate(numbers):
        slot = expected_slot[number]
        assert slots[row] == slot
        hidden = features[cell[number]].astype(np.float64) @ w["reduce_kernel"][slot]
        code = (hidden + w["reduce_bias"][slot]) @ w["code_kernel"] + w["code_bias"]
        deltas = (code @ w["basis"] + w["mean"]).reshape(7, 3)
        cx, cy, side, _ = anchors[number]
        wanted = np.array([cx, cy, 0]) + deltas * 0.1 * side
        np.testing.assert_allclose(found[row], wanted, rtol=1e-3, atol=1e-2)
        # x and y are decoded as landmarks are.
        points = decode_points(deltas[None, :, :2].astype(np.float32), anchors[number][None], 0.1)
        np.testing.assert_allclose(found[row, :, :2], points[0], rtol=1e-3, atol=1e-2)


def test_slots_of_anchors_count_levels_and_sizes():
    levels = (
        PyramidLevel(stride=8, anchor_sizes=(16, 24, 32)),
        PyramidLevel(stride=16, anchor_sizes=(64,)),
    )
    config = RetinaFaceConfig(levels=levels, dense=DenseConfig(vertices=7))
    slots = slots_of_anchors(config, 16, 24, np.arange(2 * 3 * 3 + 1 * 2))
    assert slots.tolist() == [0, 1, 2] * 6 + [3, 3]


def test_sampling_interpolates_between_cells():
    """A feature that is a linear function of the place is read back exactly."""
    config = RetinaFaceConfig(
        dense=DenseConfig(vertices=7, frame="face", grid=2, finer=1, extent=0.5)
    )
    table = sampling_table(config, 64, 64)
    rows = []
    for stride in (8, 16):
        side = 64 // stride
        y, x = np.mgrid[:side, :side]
        rows.append(np.stack([(x + 0.5) * stride, (y + 0.5) * stride], -1).reshape(-1, 2))
    features = np.concatenate(rows).astype(np.float32)
    frames = face_frames(
        np.array([[20, 20, 36, 44]], np.float32), np.array([[[0, 0]] * 5], np.float32)
    )
    size = np.sqrt(16 * 24)
    expected = [[28 + sx * size / 8, 32 + sy * size / 8] for sy in (-1, 1) for sx in (-1, 1)]
    for slot in (0, 4):
        found = sample_features(
            features, np.array([0]), frames, np.array([slot]), table, config.dense
        )
        np.testing.assert_allclose(found[0], expected, atol=1e-3)


def test_frames_there_and_back(rng):
    boxes = np.array([[10, 20, 50, 70], [0, 0, 8, 8]], np.float32)
    landmarks = rng.uniform(10, 60, (2, 5, 2)).astype(np.float32)
    for frames in (
        face_frames(boxes, landmarks),
        anchor_frames(np.array([[5, 6, 16, 16], [8, 9, 32, 32]], np.float32)),
    ):
        vertices = rng.normal(0, 30, (2, 9, 3))
        np.testing.assert_allclose(
            from_frames(to_frames(vertices, frames), frames), vertices, atol=1e-4
        )


def test_a_turned_face_has_the_same_frame_coordinates(rng):
    box = np.array([[0, 0, 60, 60]], np.float32)
    upright = np.array([[20, 20], [40, 20], [30, 30], [22, 42], [38, 42]], np.float32)
    angle = 0.6
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turned = (upright - 30) @ turn.T + 30
    plain = face_frames(box, upright[None]).points
    again = face_frames(box, turned[None].astype(np.float32)).points
    np.testing.assert_allclose(again, plain, atol=1e-5)


def test_points_that_fell_together_give_an_upright_frame():
    frames = face_frames(np.zeros((1, 4), np.float32), np.full((1, 5, 2), 7, np.float32))
    assert np.isfinite(frames.turn).all() and np.allclose(frames.turn, [[1, 0]])


def test_the_mean_face_is_posed_exactly_by_its_own_five_points():
    mean = load_topology().mean.astype(np.float64)
    five = five_of_vertices(mean)
    angles = np.radians([40.0, -17.0, 11.0])
    turned = 0.9 * mean @ rotation_of_angles(*angles).T + [0.3, -0.2, 0]
    points = five_of_vertices(turned)[None, :, :2]
    vertices, rotation = posed_shape(points, five, mean)
    turned[:, 2] -= turned[30, 2]
    np.testing.assert_allclose(vertices[0], turned, atol=1e-9)
    np.testing.assert_allclose(rotation[0].reshape(3, 3), rotation_of_angles(*angles), atol=1e-9)
    np.testing.assert_allclose(head_pose(vertices, mean)[0], [40, -17, 11], atol=1e-6)


def test_the_poses_signs():
    mean = load_topology().mean.astype(np.float64)
    nose, chin = 30, 8
    for axis, angles in enumerate(np.radians(20) * np.eye(3)):
        turned = mean @ rotation_of_angles(*angles).T
        assert head_pose(turned[None], mean)[0, axis] == pytest.approx(20)
        middle = turned.mean(axis=0)
        if axis == 0:
            assert turned[nose, 0] < middle[0], "positive yaw looks to the image's left"
        if axis == 1:
            assert turned[nose, 1] < middle[1] - (mean.mean(0) - mean[nose])[1], "looks up"
        if axis == 2:
            assert turned[chin, 0] < 0 < turned[27, 0], "tilted clockwise: the chin to the left"


def test_regression_of_no_face_is_empty(rng):
    _, weights = _weights(FACE, 6, rng)
    samples = np.zeros((0, 9, 6), np.float32)
    found = regress(
        samples, np.zeros((0, 10), np.float32), np.zeros(0, int), weights, FACE.dense, 0.1
    )
    assert found.shape == (0, 7, 3)
