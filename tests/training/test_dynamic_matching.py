"""Faces matched with the boxes the network predicts now."""

import dataclasses

import keras
import numpy as np
import pytest

from retinaface_tf import build_retinaface
from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.data.options import MatchConfig
from retinaface_tf.data.targets import encode_targets
from retinaface_tf.errors import ConfigError
from retinaface_tf.geometry.anchors import generate_anchors
from retinaface_tf.geometry.box_coding import decode_boxes, encode_boxes
from retinaface_tf.losses.config import LossConfig
from retinaface_tf.training.config import OptimizerConfig
from retinaface_tf.training.step import DetectorTraining

SIZE = 96
FACES = np.float32([[10, 12, 60, 64], [70, 70, 82, 84]])
MATCH = MatchConfig(dynamic=True, positive_threshold=0.65, negative_threshold=0.5)


@pytest.fixture(scope="module")
def training():
    keras.utils.set_random_seed(0)
    network = build_retinaface("lite")
    anchors = generate_anchors(network.config.levels, SIZE, SIZE)
    losses = LossConfig(score_targets=True)
    model = DetectorTraining(network, anchors, losses, OptimizerConfig(), MATCH)
    model.compile(optimizer=keras.optimizers.SGD(1e-4), jit_compile=False)
    return model


def batch(training, rng):
    """One image of two faces, the second unsure, with what the pipeline adds to it."""
    points, ignored = np.full((2, 5, 2), np.nan, np.float32), np.array([False, False])
    scores = np.float32([1.0, 0.6])
    config = training.network.config
    targets = encode_targets(
        FACES, points, ignored, training._anchors, config, MATCH, scores=scores
    )
    faces = {"boxes": FACES, "landmarks": points, "ignored": ignored, "scores": scores}
    image = rng.integers(0, 256, (SIZE, SIZE, 3)).astype(np.float32)
    result = {**targets, **faces, "image": image, "image_id": np.int64(3)}
    return {name: np.asarray(value)[None] for name, value in result.items()}


def overlap(box, face):
    (x1, y1, x2, y2), (a1, b1, a2, b2) = box, face
    inner = max(0, min(x2, a2) - max(x1, a1)) * max(0, min(y2, b2) - max(y1, b1))
    return inner / ((x2 - x1) * (y2 - y1) + (a2 - a1) * (b2 - b1) - inner)


def test_labels_follow_the_overlap_of_predicted_boxes(training, rng):
    anchors = training._anchors
    # Predictions round the faces, more or less well placed, whatever the anchor.
    near = FACES[rng.integers(0, 2, len(anchors))]
    predicted = near + rng.normal(0, 1, near.shape) * (near[:, 2:3] - near[:, :1]) * 0.15
    deltas = np.asarray(encode_boxes(predicted.astype(np.float32), anchors))[None]
    targets = training._refined_targets(deltas, batch(training, rng))
    labels, soft = targets["labels"].numpy()[0], targets["soft_targets"].numpy()[0]
    overlaps = np.array([[overlap(box, face) for face in FACES] for box in predicted])
    best, face = overlaps.max(axis=1), overlaps.argmax(axis=1)
    forced = overlaps.argmax(axis=0)
    want = np.where(best >= 0.65, 1, np.where(best < 0.5, 0, -1))
    want[forced] = 1
    clear = (np.abs(best[:, None] - [0.5, 0.65]) > 1e-3).all(axis=1)
    np.testing.assert_array_equal(labels[clear], want[clear])
    assert min((want == label).sum() for label in (-1, 0, 1)) > 5
    quality = np.where(face == 0, 1.0, 0.6) * best
    np.testing.assert_allclose(soft[want == 1], quality[want == 1], rtol=1e-3)
    # Codes to learn are those of the anchors.
    positive = want == 1
    np.testing.assert_allclose(
        targets["box_deltas"].numpy()[0, positive],
        np.asarray(encode_boxes(FACES[face], anchors))[positive],
        rtol=1e-4,
        atol=1e-4,
    )


def test_a_face_has_no_more_positives_than_allowed(training, rng):
    anchors = training._anchors
    deltas = np.asarray(encode_boxes(np.tile(FACES[:1], (len(anchors), 1)), anchors))[None]
    deltas = deltas + rng.normal(0, 0.1, deltas.shape).astype(np.float32)
    predicted = np.asarray(decode_boxes(deltas[0], anchors))
    overlaps = np.array([overlap(box, FACES[0]) for box in predicted])
    assert (overlaps >= 0.65).sum() > 60
    limited = dataclasses.replace(MATCH, per_face=7)
    model = DetectorTraining(
        training.network, anchors, LossConfig(score_targets=True), OptimizerConfig(), limited
    )
    targets = model._refined_targets(deltas, batch(training, rng))
    mine = targets["faces"].numpy()[0] == 0
    assert mine.sum() == 7
    assert overlaps[mine].min() >= np.sort(overlaps)[-8]
    assert (targets["labels"].numpy()[0, (overlaps >= 0.66) & ~mine] == -1).all()


def test_a_step_learns_by_it(training, rng):
    result = training.train_step(batch(training, rng))
    assert np.isfinite(float(result["loss"])) and float(result["positives"]) >= 2


def test_a_cascade_has_its_own(training):
    network = build_retinaface(RetinaFaceConfig(channels=8, cascade=True))
    with pytest.raises(ConfigError, match=r"match\.dynamic"):
        DetectorTraining(network, training._anchors, LossConfig(), OptimizerConfig(), MATCH)
