"""Boxes, deltas and anchors: known answers, and numpy equal to the Keras backend."""

import numpy as np
import pytest

from retinaface_tf.config import PUBLIC_LEVELS
from retinaface_tf.geometry import anchors, boxes, nms
from retinaface_tf.geometry import box_coding as coding
from retinaface_tf.geometry.nms import non_max_suppression, non_max_suppression_in_graph


def random_boxes(rng, *shape, size=640.0):
    corners = rng.uniform(0, size, (*shape, 2))
    sides = rng.uniform(1, size / 3, (*shape, 2))
    return np.concatenate([corners, corners + sides], axis=-1).astype(np.float32)


def test_iou_of_known_pairs():
    a = np.array([[0, 0, 10, 10], [0, 0, 0, 0]], np.float32)
    b = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]], np.float32)
    np.testing.assert_allclose(boxes.pairwise_iou(a, b), [[1, 1 / 3, 0], [0, 0, 0]], rtol=1e-6)


def test_shares_of_known_pairs():
    box, inner, aside = np.array([[0.0, 0, 10, 10], [2, 2, 4, 12], [20, 20, 30, 30]])
    assert boxes.share_inside(inner, box) == 16 / 20
    assert boxes.share_inside(box, inner) == 16 / 100
    assert boxes.share_inside(box, aside) == 0


def test_overlaps_from_centers_equal_those_from_corners_and_keep_ties(rng):
    a, b = (random_boxes(rng, n).astype(np.float64) for n in (40, 30))
    found = boxes.pairwise_iou_of_centers(boxes.corners_to_center(a), boxes.corners_to_center(b))
    np.testing.assert_allclose(found, boxes.pairwise_iou(a, b), atol=1e-12)
    np.testing.assert_array_equal(boxes.iou(a[:30], b), np.diag(boxes.pairwise_iou(a[:30], b)))
    inside = np.float32([[100.3, 90.7, 3.1, 7.7]]) + rng.uniform(-9, 9, (50, 4)) * (1, 1, 0, 0)
    around = np.float32([[100, 90, 64, 64]])
    ties = boxes.pairwise_iou_of_centers(np.float32(inside), around)
    assert len(np.unique(ties)) == 1


def test_clipping_keeps_order_and_stays_inside():
    clipped = boxes.clip_boxes(np.array([[-5.0, 2, 30, 90]]), height=50, width=20)
    np.testing.assert_array_equal(clipped, [[0, 2, 20, 50]])


def test_box_and_point_deltas_invert(rng):
    table = anchors.generate_anchors(PUBLIC_LEVELS, 96, 128)
    faces = random_boxes(rng, len(table))
    points = rng.uniform(-50, 200, (len(table), 5, 2)).astype(np.float32)
    back = coding.decode_boxes(coding.encode_boxes(faces, table), table)
    np.testing.assert_allclose(back, faces, atol=2e-3)
    back = coding.decode_points(coding.encode_points(points, table), table)
    np.testing.assert_allclose(back, points, atol=1e-3)


@pytest.mark.parametrize(
    "function, arguments",
    [
        (boxes.corners_to_center, 1),
        (boxes.center_to_corners, 1),
        (boxes.area, 1),
        (lambda b: boxes.clip_boxes(b, 300, 400), 1),
        (boxes.pairwise_iou, 2),
        (lambda b, a: coding.encode_boxes(b, boxes.corners_to_center(a)), 2),
        (lambda b, a: coding.decode_boxes(b / 640, boxes.corners_to_center(a)), 2),
    ],
)
def test_numpy_equals_the_keras_backend(rng, ops, function, arguments):
    values = [random_boxes(rng, 200) for _ in range(arguments)]
    expected = function(*values)
    tensors = [ops.convert_to_tensor(value) for value in values]
    actual = ops.convert_to_numpy(function(*tensors))
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("function", [coding.encode_points, coding.decode_points])
def test_point_deltas_in_numpy_equal_the_keras_backend(rng, ops, function):
    points = rng.uniform(-50, 200, (3, 200, 5, 2)).astype(np.float32)
    table = boxes.corners_to_center(random_boxes(rng, 200))
    actual = function(ops.convert_to_tensor(points), ops.convert_to_tensor(table))
    expected = function(points, table)
    np.testing.assert_allclose(ops.convert_to_numpy(actual), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("height, width", [(640, 640), (480, 640), (97, 33), (1, 1)])
def test_anchor_table_counts_and_graph_version(ops, height, width):
    table = anchors.generate_anchors(PUBLIC_LEVELS, height, width)
    assert len(table) == anchors.count_anchors(PUBLIC_LEVELS, height, width)
    in_graph = anchors.generate_anchors_in_graph(
        PUBLIC_LEVELS, ops.convert_to_tensor(height), ops.convert_to_tensor(width)
    )
    np.testing.assert_array_equal(ops.convert_to_numpy(in_graph), table)


def test_anchors_of_a_640_square():
    table = anchors.generate_anchors(PUBLIC_LEVELS, 640, 640)
    assert len(table) == 16_800
    np.testing.assert_array_equal(table[0], [4, 4, 16, 16])
    np.testing.assert_array_equal(table[1], [4, 4, 32, 32])
    np.testing.assert_array_equal(table[2], [12, 4, 16, 16])
    np.testing.assert_array_equal(table[-1], [624, 624, 512, 512])


def test_anchors_are_cached_and_read_only():
    table = anchors.generate_anchors(PUBLIC_LEVELS, 64, 64)
    assert anchors.generate_anchors(PUBLIC_LEVELS, 64, 64) is table
    with pytest.raises(ValueError):
        table[0] = 0


def brute_force_suppression(corners, scores, threshold):
    kept = []
    for i in sorted(range(len(scores)), key=lambda i: -scores[i]):
        overlaps = boxes.pairwise_iou(corners[i][None], corners[kept])[0] if kept else []
        if not any(iou > threshold for iou in overlaps):
            kept.append(i)
    return kept


@pytest.mark.parametrize("count", [0, 1, 2, 50, 400])
def test_suppression_equals_the_definition_and_the_graph(rng, ops, count):
    corners = random_boxes(rng, count)
    scores = rng.permutation(count).astype(np.float32) / max(count, 1) * 0.9 + 0.05
    expected = brute_force_suppression(corners, scores, 0.4)
    np.testing.assert_array_equal(non_max_suppression(corners, scores, 0.4), expected)
    np.testing.assert_array_equal(
        non_max_suppression(corners, scores, 0.4, max_outputs=3), expected[:3]
    )
    if count:
        indices, valid = non_max_suppression_in_graph(corners[None], scores[None], 0.4, count)
        found = ops.convert_to_numpy(indices)[ops.convert_to_numpy(valid)]
        np.testing.assert_array_equal(found, expected)


def test_graph_suppression_ignores_padding(rng, ops):
    corners, scores = random_boxes(rng, 2, 30), rng.uniform(0.1, 1, (2, 30)).astype(np.float32)
    scores[1] = 0
    _, valid = non_max_suppression_in_graph(corners, scores, 0.4, 10)
    valid = ops.convert_to_numpy(valid)
    assert valid[0].any() and not valid[1].any()


def test_suppression_agrees_with_opencv(rng):
    import cv2

    corners = random_boxes(rng, 300)
    scores = rng.uniform(0.1, 1, 300).astype(np.float32)
    sizes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    expected = cv2.dnn.NMSBoxes(sizes.tolist(), scores.tolist(), 0.0, 0.4)
    np.testing.assert_array_equal(non_max_suppression(corners, scores, 0.4), expected)


@pytest.mark.parametrize("threshold", [0.4, 0.95])
def test_suppression_lists_no_pairs_where_all_boxes_overlap(rng, threshold, monkeypatch):
    monkeypatch.setattr(nms, "_kept_by_pairs", None)  # twelve million of them
    corners = random_boxes(rng, 1) + rng.normal(0, 1, (5000, 4)).astype(np.float32)
    scores = rng.uniform(0.1, 1, 5000).astype(np.float32)
    kept = non_max_suppression(corners, scores, threshold)
    best = np.argsort(-scores)[:1500]
    expected = brute_force_suppression(corners[best], scores[best], threshold)
    within = kept[: np.searchsorted(-scores[kept], -scores[best[-1]], "right")]
    np.testing.assert_array_equal(within, best[expected])
