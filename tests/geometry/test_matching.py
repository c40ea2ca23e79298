"""Matching held to a plain float64 brute force over the whole table of overlaps."""

import numpy as np
import pytest

from retinaface_tf.config import PUBLIC_LEVELS, PyramidLevel
from retinaface_tf.geometry.anchors import generate_anchors
from retinaface_tf.geometry.matching import match_anchors

STEP = 2 ** (1 / 3)
# The papers' table at 640: 102,300 anchors (1905.00641, table 1).
PAPER_LEVELS = tuple(
    PyramidLevel(stride=s, anchor_sizes=(4 * s, 4 * s * STEP, 4 * s * STEP**2))
    for s in (4, 8, 16, 32, 64)
)


def brute_force(anchors, boxes, ignored, positive=0.5, negative=0.3):
    """Labels and faces from corner boxes in float64, one face a loop."""
    anchors, boxes = np.float64(anchors), np.float64(boxes).reshape(-1, 4)
    corners = np.concatenate(
        [anchors[:, :2] - anchors[:, 2:] / 2, anchors[:, :2] + anchors[:, 2:] / 2], 1
    )
    smallest = anchors[:, 2:].min()
    best, best_face = np.full(len(anchors), -1.0), np.zeros(len(anchors), int)
    spared, claims = np.zeros(len(anchors), bool), {}
    for number, (box, skip) in enumerate(zip(boxes, ignored)):
        if not np.isfinite(box).all() or (box[2:] <= box[:2]).any():
            continue
        if skip:
            center, side = (box[:2] + box[2:]) / 2, np.maximum(box[2:] - box[:2], smallest)
            box = np.concatenate([center - side / 2, center + side / 2])
        sides = np.minimum(corners[:, 2:], box[2:]) - np.maximum(corners[:, :2], box[:2])
        inner = np.maximum(sides, 0).prod(1)
        iou = inner / ((box[2:] - box[:2]).prod() + anchors[:, 2:].prod(1) - inner)
        top = iou.argmax()
        if skip:
            spared |= iou >= negative
            spared[top] |= iou[top] > 0
            continue
        better = iou > best
        best[better], best_face[better] = iou[better], number
        if iou[top] > claims.get(top, (0, None))[0]:
            claims[top] = (iou[top], number)
    labels = np.where(best > positive, 1, np.where((best >= negative) | spared, -1, 0))
    for anchor, (_, number) in claims.items():
        labels[anchor], best_face[anchor] = 1, number
    return labels, np.where(labels == 1, best_face, 0)


def random_scene(rng, count, size=640):
    """Faces of 4 to 400 pixels, some outside, empty, inverted, not finite or to be ignored."""
    side = np.exp(rng.uniform(np.log(4), np.log(400), (count, 1))) * rng.uniform(
        0.7, 1.4, (count, 2)
    )
    corner = rng.uniform(-0.2 * size, size, (count, 2))
    boxes = np.concatenate([corner, corner + side], 1).astype(np.float32)
    if count > 10:
        boxes[3, 2] = boxes[3, 0]
        boxes[4, [1, 3]] = boxes[4, [3, 1]]
        boxes[5, 0] = np.nan
        boxes[6] = boxes[7]
        boxes[8] = np.round(boxes[8] / 16) * 16
    return boxes, rng.random(count) < 0.2


@pytest.mark.parametrize(
    "levels, anchors, faces",
    [
        *((PUBLIC_LEVELS, 16_800, faces) for faces in (0, 1, 500)),
        *((PAPER_LEVELS, 102_300, faces) for faces in (0, 1, 60)),
        pytest.param(PAPER_LEVELS, 102_300, 500, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("thresholds", [(0.5, 0.3), (0.7, 0.3), (0.5, 0.4)])
def test_labels_equal_the_brute_force(levels, anchors, faces, thresholds, rng):
    table = generate_anchors(levels, 640, 640)
    assert len(table) == anchors
    boxes, ignored = random_scene(rng, faces)
    found = match_anchors(
        table,
        boxes.astype(np.float64),
        ignored,
        positive_threshold=thresholds[0],
        negative_threshold=thresholds[1],
    )
    labels, matched = brute_force(table, boxes, ignored, *thresholds)
    np.testing.assert_array_equal(found.labels, labels)
    np.testing.assert_array_equal(found.faces, matched)
    if faces == 500:
        assert min((labels == 1).sum(), (labels == -1).sum()) > 300


@pytest.mark.parametrize("faces", [0, 1, 60])
def test_tensors_and_arrays_agree(faces, rng, ops):
    table = generate_anchors(PUBLIC_LEVELS, 320, 320)
    boxes, ignored = random_scene(rng, faces, 320)
    expected = match_anchors(table, boxes, ignored)
    found = match_anchors(table, ops.convert_to_tensor(boxes), ops.convert_to_tensor(ignored))
    np.testing.assert_array_equal(ops.convert_to_numpy(found.labels), expected.labels)
    np.testing.assert_array_equal(ops.convert_to_numpy(found.faces), expected.faces)


def test_every_face_keeps_its_best_anchor(rng):
    """Faces far from any anchor's shape still have one anchor each, unless they share it."""
    table = generate_anchors(PUBLIC_LEVELS, 640, 640)
    centers = np.stack(np.meshgrid(np.arange(50, 600, 60), np.arange(50, 600, 60)), -1)
    centers = centers.reshape(-1, 2) + rng.uniform(-5, 5, (100, 2))
    half = np.array([3, 6])
    boxes = np.concatenate([centers - half, centers + half], 1).astype(np.float32)
    found = match_anchors(table, boxes, np.zeros(100, bool))
    assert set(found.faces[found.labels == 1]) == set(range(100))


def test_a_tiny_ignored_face_is_not_background():
    table = generate_anchors(PUBLIC_LEVELS, 64, 64)
    box = np.float32([[30, 30, 33, 33]])
    assert (match_anchors(table, box, np.array([False])).labels == 1).sum() == 1
    found = match_anchors(table, box, np.array([True]))
    assert not (found.labels == 1).any()
    near = np.abs(table[:, :2] - 31.5).max(1) < 5
    assert (found.labels[near & (table[:, 2] == 16)] == -1).all()
    assert (found.labels == 0).sum() > 50


@pytest.mark.parametrize("chunk", [1, 7, 42, 5000])
def test_chunks_do_not_change_the_result(chunk, rng):
    table = generate_anchors(PUBLIC_LEVELS, 32, 32)
    boxes, ignored = random_scene(rng, 20, 32)
    expected, found = (
        match_anchors(table, boxes, ignored),
        match_anchors(table, boxes, ignored, chunk=chunk),
    )
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_array_equal(found.faces, expected.faces)
