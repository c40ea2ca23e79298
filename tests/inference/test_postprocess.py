"""Reading faces from raw outputs: a known face, hostile numbers, and numpy equal to the graph."""

import numpy as np
import pytest

from retinaface_tf.config import DEFAULT_SETTINGS, DetectionSettings, RetinaFaceConfig
from retinaface_tf.errors import WeightsError
from retinaface_tf.geometry.anchors import generate_anchors
from retinaface_tf.geometry.box_coding import encode_boxes, encode_points
from retinaface_tf.inference.postprocess import read_faces
from retinaface_tf.inference.preprocess import Prepared
from retinaface_tf.inference.runtimes.runtime import RawOutputs
from retinaface_tf.modelfile.metadata import Suppression

CONFIG = RetinaFaceConfig()


def outputs_for(boxes, landmarks, size, score=0.9):
    """Raw outputs in which one anchor each carries the given faces exactly."""
    anchors = generate_anchors(CONFIG.levels, *size)
    scores = np.zeros((1, len(anchors)), np.float32)
    deltas = np.zeros((1, len(anchors), 4), np.float32)
    points = np.zeros((1, len(anchors), 5, 2), np.float32)
    for k, (box, marks) in enumerate(zip(boxes, landmarks)):
        i = 7 * k + 3
        scores[0, i] = score - 0.1 * k
        deltas[0, i] = encode_boxes(np.asarray(box, np.float32), anchors[i])
        points[0, i] = encode_points(np.asarray(marks, np.float32), anchors[i])
    return RawOutputs(scores, deltas, points.reshape(1, -1, 10))


def prepared(height, width, scale=1.0):
    pixels = np.zeros((height, width, 3), np.uint8)
    return Prepared(pixels, (scale, scale), (round(height / scale), round(width / scale)))


def test_a_face_comes_back_in_pixels_of_the_original_image():
    box, marks = [10, 12, 40, 50], [[18, 25], [32, 25], [25, 33], [19, 42], [31, 42]]
    outputs = outputs_for([box], [marks], (64, 96))
    faces = read_faces(outputs, 0, (64, 96), prepared(60, 80, scale=0.5), CONFIG, DEFAULT_SETTINGS)
    np.testing.assert_allclose(faces.boxes, [np.multiply(box, 2)], atol=1e-3)
    np.testing.assert_allclose(faces.landmarks, [np.multiply(marks, 2)], atol=1e-3)
    assert faces.image_size == (120, 160)


def test_boxes_are_clipped_and_boxes_in_the_padding_are_dropped():
    marks = np.zeros((5, 2))
    outputs = outputs_for([[-20, -5, 30, 30], [85, 10, 95, 20]], [marks, marks], (64, 96))
    faces = read_faces(
        outputs, 0, (64, 96), prepared(60, 80), CONFIG, DetectionSettings(threshold=0.1)
    )
    np.testing.assert_allclose(faces.boxes, [[0, 0, 30, 30]], atol=1e-3)


def test_wild_deltas_stay_inside_the_image(rng):
    shape = (len(generate_anchors(CONFIG.levels, 64, 64)),)
    outputs = RawOutputs(
        np.full((1, *shape), 0.9, np.float32),
        rng.normal(0, 1e4, (1, *shape, 4)).astype(np.float32),
        rng.normal(0, 1e4, (1, *shape, 10)).astype(np.float32),
    )
    faces = read_faces(outputs, 0, (64, 64), prepared(60, 50), CONFIG, DEFAULT_SETTINGS)
    assert np.isfinite(faces.boxes).all()
    assert (faces.boxes >= 0).all() and (faces.boxes <= [50, 60, 50, 60]).all()


def test_scores_that_are_not_numbers_are_an_error():
    outputs = outputs_for([], [], (64, 64))
    outputs.scores[:] = np.nan
    with pytest.raises(WeightsError, match="NaN"):
        read_faces(outputs, 0, (64, 64), prepared(64, 64), CONFIG, DEFAULT_SETTINGS)


@pytest.mark.parametrize("size", [(32, 32), (128, 160)])
def test_the_graph_equals_numpy(rng, ops, size):
    from retinaface_tf.inference.postprocess_in_graph import read_faces_in_graph

    anchors = generate_anchors(CONFIG.levels, *size)
    count, batch = len(anchors), 3
    outputs = RawOutputs(
        rng.uniform(0, 1, (batch, count)).astype(np.float32),
        rng.normal(0, 1, (batch, count, 4)).astype(np.float32),
        rng.normal(0, 3, (batch, count, 10)).astype(np.float32),
    )
    outputs.scores[1] = 0
    inner = [(size[0], size[1]), (size[0] - 5, size[1] - 9), (size[0] // 2, size[1])]
    tensors = read_faces_in_graph(
        {name: ops.convert_to_tensor(v) for name, v in outputs._asdict().items()},
        anchors,
        ops.convert_to_tensor(np.asarray(inner, np.float32)),
        CONFIG,
        Suppression(threshold=0.6, iou=0.4, max_faces=40),
    )
    boxes, scores, landmarks, found, _ = (ops.convert_to_numpy(t) for t in tensors)
    for b in range(batch):
        settings = DetectionSettings(threshold=0.6, max_faces=40)
        faces = read_faces(outputs, b, size, prepared(*inner[b]), CONFIG, settings)
        assert found[b] == len(faces)
        np.testing.assert_allclose(boxes[b, : found[b]], faces.boxes, atol=1e-3)
        np.testing.assert_allclose(scores[b, : found[b]], faces.scores, atol=1e-6)
        np.testing.assert_allclose(landmarks[b, : found[b]], faces.landmarks, atol=1e-3)
        assert not boxes[b, found[b] :].any() and not scores[b, found[b] :].any()
