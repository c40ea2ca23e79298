"""Each loss against plain float64 loops, and gradients against finite differences."""

import math

import numpy as np
import pytest
import tensorflow as tf

from retinaface_tf.config import PyramidLevel
from retinaface_tf.errors import ConfigError
from retinaface_tf.geometry.anchors import generate_anchors
from retinaface_tf.losses.config import LossConfig
from retinaface_tf.losses.multitask import multitask_sums

VARIANCES = (0.1, 0.2)
ANCHORS = generate_anchors((PyramidLevel(stride=8, anchor_sizes=(16, 32)),), 40, 40)
COUNT = len(ANCHORS)
CONFIGS = [
    LossConfig(),
    LossConfig(classification="focal", box="diou"),
    LossConfig(box="ciou"),
    LossConfig(score_targets=True),
]


@pytest.fixture
def scene(rng):
    """Random outputs and targets of three images: 4 positives, 1 positive, none."""
    labels = rng.choice([0, -1], (3, COUNT), p=[0.7, 0.3]).astype(np.int32)
    labels[0, [3, 8, 20, 31]] = 1
    labels[1, 17] = 1
    outputs = {
        "class_logits": rng.normal(0, 2, (3, COUNT, 2)),
        "box_deltas": rng.normal(0, 1, (3, COUNT, 4)),
        "landmark_deltas": rng.normal(0, 2, (3, COUNT, 10)),
    }
    targets = {
        "labels": labels,
        "box_deltas": rng.normal(0, 1, (3, COUNT, 4)),
        "landmark_deltas": rng.normal(0, 2, (3, COUNT, 10)),
        "landmark_mask": (rng.random((3, COUNT, 5)) < 0.6).astype(np.float32),
    }
    # Whole faces without landmarks, as in WIDER FACE.
    targets["landmark_mask"][0, 8] = 0
    # A teacher's scores: of learnt faces, one without any, and of uncertain ones.
    soft = np.zeros((3, COUNT))
    soft[labels == 1] = [0.97, 0.3, 1.0, 0.0, 0.71]
    for image, anchors in enumerate(labels):
        soft[image, np.flatnonzero(anchors == -1)[:3]] = 0.31, 0.5, 0.69
    targets["soft_targets"] = soft
    return tuple(
        {k: v if v.dtype == np.int32 else v.astype(np.float32) for k, v in part.items()}
        for part in (outputs, targets)
    )


def huber(e, beta):
    return 0.5 * e * e / beta if abs(e) < beta else abs(e) - beta / 2


def decode(code, anchor):
    cx, cy, w, h = map(float, anchor)
    x, y = cx + code[0] * 0.1 * w, cy + code[1] * 0.1 * h
    w, h = w * math.exp(code[2] * 0.2), h * math.exp(code[3] * 0.2)
    return x - w / 2, y - h / 2, x + w / 2, y + h / 2


def iou_formula(a, b, complete):
    """Zheng et al. 2020, equations 7 and 10."""
    inner = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    areas = sum((r[2] - r[0]) * (r[3] - r[1]) for r in (a, b))
    iou = inner / (areas - inner)
    distance = ((a[0] + a[2] - b[0] - b[2]) / 2) ** 2 + ((a[1] + a[3] - b[1] - b[3]) / 2) ** 2
    c2 = (max(a[2], b[2]) - min(a[0], b[0])) ** 2 + (max(a[3], b[3]) - min(a[1], b[1])) ** 2
    loss = 1 - iou + distance / c2
    if complete:
        ratios = [math.atan((r[2] - r[0]) / (r[3] - r[1])) for r in (a, b)]
        v = 4 / math.pi**2 * (ratios[0] - ratios[1]) ** 2
        loss += v * v / (1 - iou + v)
    return loss


def formula(outputs, targets, config):
    """The four sums of each image, one anchor at a time."""
    rows = []
    for i in range(len(targets["labels"])):
        class_sum = box_sum = point_sum = positives = 0.0
        negatives = []
        for j, label in enumerate(targets["labels"][i]):
            background, face = (float(v) for v in outputs["class_logits"][i, j])
            p = 1 / (1 + math.exp(background - face))
            if config.classification == "focal" and label >= 0:
                pt, alpha = (p, 0.25) if label else (1 - p, 0.75)
                class_sum += -alpha * (1 - pt) ** 2 * math.log(pt)
            elif config.score_targets and (label == 1 or targets["soft_targets"][i, j] > 0):
                s = float(targets["soft_targets"][i, j])
                class_sum += -(s * math.log(p) + (1 - s) * math.log(1 - p))
            elif label == 1:
                class_sum += -math.log(p)
            elif label == 0:
                negatives.append(-math.log(1 - p))
            if label != 1:
                continue
            positives += 1
            found, wanted = (np.float64(d["box_deltas"][i, j]) for d in (outputs, targets))
            if config.box == "smooth_l1":
                box_sum += sum(huber(e, 1.0) for e in found - wanted)
            else:
                pair = decode(found, ANCHORS[j]), decode(wanted, ANCHORS[j])
                box_sum += iou_formula(*pair, config.box == "ciou")
            errors = np.float64(outputs["landmark_deltas"][i, j] - targets["landmark_deltas"][i, j])
            point_sum += sum(
                huber(e, 1.0)
                for k, e in enumerate(errors)
                if targets["landmark_mask"][i, j, k // 2]
            )
        if config.classification == "ohem":
            class_sum += sum(sorted(negatives)[::-1][: max(3 * int(positives), 8)])
        rows.append((class_sum, box_sum, point_sum, positives))
    return np.array(rows).T


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_sums_equal_the_formula(config, scene):
    found = multitask_sums(*scene, ANCHORS, config, VARIANCES)
    expected = formula(*scene, config)
    for name, value, wanted in zip(found._fields, found, expected):
        np.testing.assert_allclose(np.asarray(value), wanted, rtol=1e-5, err_msg=name)


def _gradients(outputs, targets, config):
    variables = {name: tf.constant(value) for name, value in outputs.items()}
    with tf.GradientTape() as tape:
        tape.watch(variables)
        sums = multitask_sums(variables, targets, ANCHORS, config, VARIANCES)
        total = sum(tf.reduce_sum(s) for s in sums[:3])
    return {name: np.asarray(g) for name, g in tape.gradient(total, variables).items()}


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_gradients_equal_finite_differences(config, scene, rng):
    outputs, targets = scene
    gradients = _gradients(outputs, targets, config)
    checked = 0
    for name in outputs:
        places = np.argwhere(np.abs(gradients[name]) > 1e-3)
        for place in map(tuple, rng.permutation(places)[:12]):
            if config.box == "ciou" and name == "box_deltas":
                continue  # its alpha is held constant, so the difference quotient is another one
            ends = []
            for step in (1e-4, -1e-4):
                moved = {k: v.astype(np.float64) for k, v in outputs.items()}
                moved[name][place] += step
                ends.append(formula(moved, targets, config)[:3].sum())
            np.testing.assert_allclose(
                gradients[name][place], (ends[0] - ends[1]) / 2e-4, rtol=2e-3, atol=1e-4
            )
            checked += 1
    assert checked >= 24


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_ignored_anchors_and_unlabelled_landmarks_get_no_gradient(config, scene):
    outputs, targets = scene
    gradients = _gradients(outputs, targets, config)
    labels = targets["labels"]
    uncertain = (labels == -1) & (targets["soft_targets"] > 0) & config.score_targets
    assert not gradients["class_logits"][(labels == -1) & ~uncertain].any()
    assert gradients["class_logits"][uncertain].all()
    assert gradients["class_logits"][labels == 1].all()
    assert not gradients["box_deltas"][labels != 1].any()
    assert not gradients["landmark_deltas"][labels != 1].any()
    unlabelled = np.repeat(targets["landmark_mask"], 2, axis=-1) == 0
    assert not gradients["landmark_deltas"][unlabelled].any()
    assert gradients["landmark_deltas"][~unlabelled & (labels == 1)[..., None]].all()


def test_far_off_outputs_give_finite_gradients(scene):
    outputs, targets = scene
    outputs = {name: value * 1000 for name, value in outputs.items()}
    outputs["box_deltas"][targets["labels"] != 1] = 1e5
    gradients = _gradients(outputs, targets, LossConfig())
    assert all(np.isfinite(g).all() for g in gradients.values())


def test_without_scores_soft_targets_change_nothing(scene):
    """Not a bit where every face is sure; and where the option is off scores are not looked at."""
    outputs, targets = scene
    plain = {name: value for name, value in targets.items() if name != "soft_targets"}
    sure = plain | {"soft_targets": (targets["labels"] == 1).astype(np.float32)}
    expected = multitask_sums(outputs, plain, ANCHORS, LossConfig(), VARIANCES)
    for other, config in ((targets, LossConfig()), (sure, LossConfig(score_targets=True))):
        found = multitask_sums(outputs, other, ANCHORS, config, VARIANCES)
        for name, value, wanted in zip(found._fields, found, expected):
            np.testing.assert_array_equal(np.asarray(value), np.asarray(wanted), err_msg=name)


def test_unknown_losses_are_refused():
    with pytest.raises(ConfigError, match="score_targets"):
        LossConfig(classification="focal", score_targets=True)
    with pytest.raises(ConfigError, match="ohem"):
        LossConfig(classification="hinge")


def test_in_units_of_the_face_small_anchors_weigh_like_fitting_ones():
    """A face of 96 pixels, found 3 pixels too far right: the same by an anchor of 8 as by one of 96."""
    sums = []
    for side, face_units in ((96, False), (8, True), (8, False)):
        boxes = [[0.0, 0.0, math.log(96 / side) / 0.2, math.log(96 / side) / 0.2]]
        targets = {
            "labels": np.int32([[1]]),
            "box_deltas": np.float32([boxes]),
            "landmark_deltas": np.full((1, 1, 10), 48 / (0.1 * side), np.float32),
            "landmark_mask": np.ones((1, 1, 5), np.float32),
        }
        shift = np.float32(3 / (0.1 * side))
        outputs = {
            "class_logits": np.zeros((1, 1, 2), np.float32),
            "box_deltas": targets["box_deltas"] + shift * np.float32([1, 0, 0, 0]),
            "landmark_deltas": targets["landmark_deltas"] + shift,
        }
        anchors = np.float32([[48, 48, side, side]])
        found = multitask_sums(
            outputs, targets, anchors, LossConfig(), VARIANCES, face_units=face_units
        )
        sums.append([float(found.box_sum[0]), float(found.landmark_sum[0])])
    np.testing.assert_allclose(sums[1], sums[0], rtol=1e-4)
    assert sums[2][0] > 40 * sums[0][0] and sums[2][1] > 40 * sums[0][1]
