"""Box voting against plain loops."""

import numpy as np

from retinaface_tf.geometry.box_voting import vote


def test_a_vote_is_the_mean_weighted_by_score():
    boxes = np.array([[0.0, 0, 10, 10], [2, 0, 12, 10], [50, 50, 60, 60]])
    landmarks = np.zeros((3, 5, 2)) + np.array([0.0, 3.0, 9.0])[:, None, None]
    joined, scores, points = vote(boxes, [0.5, 0.25, 0.9], landmarks, iou_threshold=0.4)
    np.testing.assert_allclose(joined, [[50, 50, 60, 60], [2 / 3, 0, 32 / 3, 10]])
    np.testing.assert_allclose(scores, [0.9, 0.5])
    np.testing.assert_allclose(points[:, 0, 0], [9, 1])


def test_a_vote_equals_plain_loops(rng):
    corner = rng.uniform(0, 60, (80, 2))
    boxes = np.hstack([corner, corner + rng.uniform(10, 30, (80, 2))])
    scores, landmarks = rng.random(80), rng.random((80, 5, 2))
    joined, best, points = vote(boxes, scores, landmarks, iou_threshold=0.4)
    left = sorted(range(80), key=lambda i: -scores[i])
    expected = []
    while left:
        group = [i for i in left if i == left[0] or overlap(boxes[i], boxes[left[0]]) >= 0.4]
        weight = sum(scores[i] for i in group)
        expected.append(
            (
                sum(scores[i] * boxes[i] for i in group) / weight,
                scores[left[0]],
                sum(scores[i] * landmarks[i] for i in group) / weight,
            )
        )
        left = [i for i in left if i not in group]
    for ours, theirs in zip((joined, best, points), zip(*expected)):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


def overlap(a, b):
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(w, 0) * max(h, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def test_points_of_a_face_found_upside_down_do_not_vote():
    boxes = np.array([[0.0, 0, 10, 10]] * 2)
    landmarks = np.stack([np.zeros((5, 2)), np.full((5, 2), 8.0)])
    _, _, points = vote(boxes, [0.9, 0.8], landmarks, rotation=[0, 2], iou_threshold=0.4)
    np.testing.assert_array_equal(points[0], np.zeros((5, 2)))


def test_detections_of_score_zero_count_alike():
    boxes = np.array([[0, 0, 10, 10], [2, 0, 12, 10]], float)
    joined, scores, _ = vote(boxes, np.zeros(2), np.zeros((2, 5, 2)), iou_threshold=0.4)
    np.testing.assert_allclose(joined, [[1, 0, 11, 10]])
    assert scores.tolist() == [0]


def test_the_score_of_several_sources_is_their_mean():
    boxes = np.array([[0.0, 0, 10, 10], [1, 0, 11, 10], [0, 0, 10, 10], [50, 50, 60, 60]])
    joined, scores, _ = vote(
        boxes,
        [0.6, 0.5, 0.3, 0.9],
        np.zeros((4, 5, 2)),
        iou_threshold=0.4,
        source=np.array([0, 0, 1, 2]),
        sources=3,
    )
    assert joined[0, 0] == 50  # the best detection is joined first
    np.testing.assert_allclose(scores, [0.3, (0.6 + 0.3) / 3])
