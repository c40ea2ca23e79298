"""The cascade's second stage learns from the boxes the first one makes."""

import keras
import numpy as np
import pytest

from retinaface_tf import build_retinaface
from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.data.options import MatchConfig
from retinaface_tf.data.targets import encode_targets
from retinaface_tf.errors import ConfigError
from retinaface_tf.geometry.anchors import generate_anchors
from retinaface_tf.geometry.box_coding import encode_boxes
from retinaface_tf.losses.config import LossConfig
from retinaface_tf.training.config import OptimizerConfig
from retinaface_tf.training.step import DetectorTraining

SIZE = 96
FACE = np.float32([[10, 12, 60, 64]])
EMPTY = np.zeros((1, 4), np.float32)


@pytest.fixture(scope="module")
def training():
    keras.utils.set_random_seed(0)
    network = build_retinaface(RetinaFaceConfig(channels=8, cascade=True))
    anchors = generate_anchors(network.config.levels, SIZE, SIZE)
    model = DetectorTraining(network, anchors, LossConfig(), OptimizerConfig())
    model.compile(optimizer=keras.optimizers.SGD(0.01), jit_compile=False)
    return model


def batch(training):
    """Two images: one with a face, one without."""
    config = training.network.config
    nothing = np.full((1, 5, 2), np.nan, np.float32), np.zeros(1, bool)
    targets = [
        encode_targets(boxes, *nothing, training._anchors, config, MatchConfig())
        for boxes in (FACE, EMPTY)
    ]
    result = {name: np.stack([t[name] for t in targets]) for name in targets[0]}
    return result | {
        "boxes": np.stack([FACE, EMPTY]),
        "landmarks": np.stack([nothing[0]] * 2),
        "ignored": np.zeros((2, 1), bool),
        "image": np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3)).astype(np.float32),
        "image_id": np.arange(2),
    }


def test_boxes_refined_onto_a_face_become_positive(training):
    anchors = training._anchors
    on_face = np.zeros(len(anchors), bool)
    on_face[5:400:13] = True
    deltas = np.zeros((2, len(anchors), 4), np.float32)
    deltas[:, on_face] = encode_boxes(np.tile(FACE, (len(anchors), 1)), anchors)[on_face]
    targets = training._refined_targets(deltas, batch(training))
    labels = targets["labels"].numpy()
    assert (labels[0, on_face] == 1).all() and not (labels[1] == 1).any()
    # Codes stay those of the anchors, so the second stage has nothing left to correct.
    np.testing.assert_allclose(
        targets["box_deltas"].numpy()[0, on_face], deltas[0, on_face], atol=1e-4
    )


def test_a_step_learns_both_stages_and_tells_each_loss(training):
    before = [np.array(w) for w in training.network.trainable_weights]
    logs = training.train_step(batch(training))
    terms = ("class", "box", "landmark", "first_class", "first_box")
    total = sum(float(logs[term]) for term in terms)
    decay = float(logs["loss"]) - total
    assert total > 0 and abs(decay) < 1e-4 * total
    changed = {
        weight.path.split("/")[-2]
        for weight, old in zip(training.network.trainable_weights, before)
        if not np.array_equal(old, weight)
    }
    for stage in ("", "first_"):
        assert any(name.startswith(f"{stage}p5_class") for name in changed)
        assert any(name.startswith(f"{stage}p5_context") for name in changed)


def test_the_two_stages_have_their_own_thresholds():
    match = MatchConfig()
    assert match.thresholds(cascade=False) == (0.3, 0.5)
    assert match.thresholds(cascade=True) == (0.3, 0.7)
    assert match.refined_thresholds == (0.4, 0.5)
    with pytest.raises(ConfigError):
        MatchConfig(cascade_positive_thresholds=(0.2, 0.5))
