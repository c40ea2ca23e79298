"""A teacher that sees each picture at twice the size tells every cell what to say."""

import dataclasses

import keras
import numpy as np
import pytest

from retinaface_tf import build_retinaface
from retinaface_tf.errors import ConfigError, TrainingDiverged
from retinaface_tf.geometry.anchors import generate_anchors
from retinaface_tf.losses.multitask import LossConfig
from retinaface_tf.presets import YUNET
from retinaface_tf.training.config import OptimizerConfig
from retinaface_tf.training.imitation import (
    IMITATED_TERMS,
    Imitation,
    ImitationConfig,
    shrink,
)
from retinaface_tf.training.step import DetectorTraining
from retinaface_tf.training.trainer import train
from retinaface_tf.weights import save_weights
from tests.training.small_run import VALUES, small_config

SIZE, STRIDES, LIMIT = 64, (8, 16, 32), 30.0
NO_LABELS = {"class_weight": 0.0, "box_weight": 0.0, "landmark_weight": 0.0}


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    return build_retinaface("lite")


def outputs(rng, size, pictures=2):
    """Random outputs of a network, faces of many sizes and a few that are sure."""
    cells = sum((size // stride) ** 2 for stride in STRIDES)
    draw = {
        name: rng.normal(0, scale, (pictures, cells, width)).astype(np.float32)
        for name, width, scale in (
            ("class_logits", 2, 2.0),
            ("box_deltas", 4, 4.0),
            ("landmark_deltas", 10, 4.0),
        )
    }
    return draw


def cell_by_cell(found, size, scale):
    """{(picture, stride, row, column): score, corner box, points in plain pixels}, as YuNet has it.

    An anchor has the stride's side and lies in the middle of its cell; variances are 0.1 and 0.2.
    """
    cells = {}
    for picture in range(len(found["class_logits"])):
        number = 0
        for stride in STRIDES:
            for row in range(size // stride):
                for column in range(size // stride):
                    background, face = np.float64(found["class_logits"][picture, number])
                    dx, dy, dw, dh = np.float64(found["box_deltas"][picture, number])
                    x, y = (column + 0.5) * stride, (row + 0.5) * stride
                    cx, cy = x + 0.1 * dx * stride, y + 0.1 * dy * stride
                    w, h = stride * np.exp(0.2 * dw), stride * np.exp(0.2 * dh)
                    points = np.float64(found["landmark_deltas"][picture, number]).reshape(5, 2)
                    cells[picture, stride, row, column] = (
                        1 / (1 + np.exp(background - face)),
                        np.array([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]) / scale,
                        (points * 0.1 * stride + [x, y]) / scale,
                    )
                    number += 1
    return cells


def side(box):
    return np.sqrt((box[2] - box[0]) * (box[3] - box[1]))


def iou(a, b):
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    inner = max(sides[0], 0) * max(sides[1], 0)
    return inner / (side(a) ** 2 + side(b) ** 2 - inner)


def logit(score):
    score = min(max(score, 1e-4), 1 - 1e-4)
    return np.log(score / (1 - score))


def told_by_loops(near, plain):
    """Scores [pictures, cells], face by face and cell by cell."""
    told = []
    for picture in sorted({key[0] for key in plain}):
        cells = [value for key, value in plain.items() if key[0] == picture]
        faces = sorted(
            (value for key, value in near.items() if key[0] == picture), key=lambda v: -v[0]
        )
        best = [
            max((own for own, box, _ in cells if iou(box, face) >= 0.3), default=0)
            for _, face, _ in faces[:96]
        ]
        for own, box, _ in cells:
            chances = [
                (score * np.clip((iou(box, face) - 0.3) / 0.4, 0, 1), top)
                for (score, face, _), top in zip(faces[:96], best)
            ]
            wanted, top = max(chances, key=lambda chance: chance[0])
            if side(box) >= LIMIT:
                told.append(own)
            elif wanted > 0:
                told.append(1 / (1 + np.exp(-logit(own) - logit(wanted) + logit(top))))
            else:
                told.append(min(own, 0.02))
    return np.array(told).reshape(-1, len(cells))


@pytest.fixture
def looks(network, rng):
    """An imitation whose teacher gives random answers, and those answers."""
    imitation = Imitation(network, SIZE, ImitationConfig(source="teacher", limit=LIMIT))
    near, plain = outputs(rng, 2 * SIZE), outputs(rng, SIZE)
    imitation._look = lambda pictures: near if pictures.shape[1] == 2 * SIZE else plain
    pictures = np.zeros((2, 2 * SIZE, 2 * SIZE, 3), np.float32)
    return imitation, near, plain, imitation.targets(pictures, shrink(pictures))


def test_every_cell_is_told_what_the_two_looks_find_there(looks):
    _, near, plain, told = looks
    cells = cell_by_cell(plain, SIZE, 1)
    want = told_by_loops(cell_by_cell(near, 2 * SIZE, 2), cells)
    told = np.asarray(told)
    np.testing.assert_allclose(told[..., 0], want, atol=1e-4)
    places = np.array([np.concatenate([b, p.ravel()]) for _, b, p in cells.values()])
    np.testing.assert_allclose(told[..., 1:], places.reshape(told[..., 1:].shape), rtol=1e-3)
    # All three cases are there.
    own = np.array([own for own, _, _ in cells.values()]).reshape(want.shape)
    large = np.array([side(box) >= LIMIT for _, box, _ in cells.values()]).reshape(want.shape)
    assert large.any() and (want[~large] <= 0.02).any() and (want[~large] > 0.1).any()
    np.testing.assert_array_equal(want[large], own[large])


def test_the_loss_is_that_of_plain_loops(looks, rng):
    imitation, _, _, told = looks
    student = outputs(rng, SIZE)
    terms, scores = imitation.sums(student, told)
    found, told = cell_by_cell(student, SIZE, 1), np.float64(told)
    logits = np.float64(student["class_logits"])
    logits = logits[..., 1] - logits[..., 0]
    q = np.clip(told[..., 0], 1e-5, 1 - 1e-5)
    p = 1 / (1 + np.exp(-logits))
    divergence = q * np.log(q / p) + (1 - q) * np.log((1 - q) / (1 - p))
    np.testing.assert_allclose(terms["imitated_class"], divergence.sum(1), rtol=1e-4)
    np.testing.assert_allclose(scores, told[..., 0].sum(1), rtol=1e-5)
    boxes = np.array([box for _, box, _ in found.values()]).reshape(2, -1, 4)
    points = np.array([five for _, _, five in found.values()]).reshape(2, -1, 10)
    distance = np.zeros(2)
    for picture, cell in np.argwhere(told[..., 0] > 0.2):
        apart = np.abs(points[picture, cell] - told[picture, cell, 5:])
        apart /= side(told[picture, cell, 1:5])
        each = np.where(apart < 0.1, apart**2 / 0.2, apart - 0.05)
        distance[picture] += 0.5 * told[picture, cell, 0] * each.sum()
    np.testing.assert_allclose(terms["imitated_landmark"], distance, rtol=1e-3)
    assert (np.asarray(terms["imitated_box"]) > 0).all() and boxes.shape == (2, 84, 4)


def test_saying_what_was_told_costs_nothing(looks):
    imitation, _, plain, _ = looks
    told = imitation._opinion(plain, imitation._anchors, 1.0)
    terms, _ = imitation.sums(plain, told)
    for name in IMITATED_TERMS:
        np.testing.assert_allclose(terms[name], 0, atol=2e-3)


@pytest.mark.parametrize(("shift", "expected"), [(0.0, 0.95), (1.0, 0.95), (3.0, 0.25)])
def test_a_small_face_is_told_by_the_enlarged_look(network, shift, expected):
    """A face the plain look doubts and the enlarged one is sure of, and a false alarm.

    The cell's box is 8 pixels wide and lies `shift` pixels beside the face's.
    """
    imitation = Imitation(network, SIZE, ImitationConfig(source="teacher", limit=LIMIT))

    def silent(size):
        cells = sum((size // stride) ** 2 for stride in STRIDES)
        logits = np.tile(np.float32([20, -20]), (1, cells, 1))
        codes = np.zeros((1, cells, 14), np.float32)
        return {
            "class_logits": logits,
            "box_deltas": codes[..., :4],
            "landmark_deltas": codes[..., 4:],
        }

    near, plain = silent(2 * SIZE), silent(SIZE)
    # Row 0 and column 1 at stride 16 of the enlarged picture: in the plain one x 8..16, y 0..8.
    near["class_logits"][0, 256 + 1] = [0, np.log(0.95 / 0.05)]
    plain["class_logits"][0, 1] = [0, np.log(0.1 / 0.9)]
    plain["box_deltas"][0, 1, 0] = 10 * shift / 8
    plain["class_logits"][0, 40] = [-3, 3]
    imitation._look = lambda pictures: near if pictures.shape[1] == 2 * SIZE else plain
    pictures = np.zeros((1, 2 * SIZE, 2 * SIZE, 3), np.float32)
    told = np.asarray(imitation.targets(pictures, shrink(pictures)))[0]
    overlap = (8 - shift) / (8 + shift)
    assert expected == pytest.approx(0.95 * min(1, (overlap - 0.3) / 0.4), abs=0.15)
    assert told[1, 0] == pytest.approx(0.95 * min(1, (overlap - 0.3) / 0.4), abs=1e-3)
    assert told[40, 0] == pytest.approx(0.02)
    np.testing.assert_allclose(told[1, 1:5], [8 + shift, 0, 16 + shift, 8], atol=1e-4)


def test_shrinking_takes_means():
    pictures = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    want = pictures.reshape(2, 2, 2, 2, 2, 3).astype(float).mean(axis=(2, 4))
    np.testing.assert_allclose(shrink(pictures), want)


def test_student_and_teacher_need_the_same_anchors(network):
    imitation = Imitation(network, SIZE, ImitationConfig(source="teacher.h5"))
    imitation.check(YUNET)
    imitation.check(dataclasses.replace(YUNET, backbone="yunet-slim"))
    with pytest.raises(ConfigError, match=r"teacher\.h5 has other levels"):
        imitation.check(dataclasses.replace(YUNET, levels=YUNET.levels[:2]))


def test_something_has_to_teach(network):
    anchors = generate_anchors(network.config.levels, SIZE, SIZE)
    with pytest.raises(ConfigError, match=r"imitation\.source"):
        DetectorTraining(network, anchors, LossConfig(**NO_LABELS), OptimizerConfig())


@pytest.fixture
def taught(tmp_path):
    """The configuration of a small run that imitates, from other weights than the teacher's."""
    files = []
    for name in ("teacher", "student"):
        keras.utils.set_random_seed(len(files))
        files.append(tmp_path / f"{name}.weights.h5")
        save_weights(build_retinaface("lite"), files[-1])
    return small_config(
        network="lite",
        data={**VALUES["data"], "batch": 2},
        init={
            "source": str(files[1]),
            "measure_statistics": True,
            "fix_statistics": True,
            "freeze": ["stem"],
        },
        imitation={"source": str(files[0]), "least_score": 0.1},
        loss=NO_LABELS,
        optimizer={"kind": "adam", "weight_decay": 0.0, "ema": 0.9},
        schedule={"kind": "cosine", "peak": 0.02, "warmup_epochs": 0},
        checkpoint_steps=3,
    )


def test_a_student_nears_its_teacher_and_a_stopped_run_goes_on(taught, tmp_path):
    losses = {"whole": {}, "parts": {}}

    def note(run):
        return lambda step, logs: losses[run].update({step: float(logs["loss"])})

    train(taught, tmp_path / "whole", on_step=note("whole"))
    values = list(losses["whole"].values())
    assert len(values) == 12 and np.mean(values[-4:]) < 0.9 * np.mean(values[:4])

    def stop(step, logs):
        note("parts")(step, logs)
        if step == 5:
            raise TrainingDiverged("stopped")

    with pytest.raises(TrainingDiverged):
        train(taught, tmp_path / "parts", on_step=stop)
    train(taught, tmp_path / "parts", on_step=note("parts"))
    # Adam's moments and the average are in the checkpoint too.
    assert losses["parts"] == losses["whole"]
    header = (tmp_path / "whole/metrics.csv").read_text().splitlines()[0].split(",")
    assert set(IMITATED_TERMS) <= set(header)
