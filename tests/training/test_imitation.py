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
    check_levels,
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


def told_by_loops(near, plain):
    told = []
    for picture in range(2):
        for stride in STRIDES:
            for row in range(SIZE // stride):
                for column in range(SIZE // stride):
                    score, box, points = plain[picture, stride, row, column]
                    voices = [(score * (side(box) >= LIMIT), box, points)]
                    if stride < 32:
                        voices.append(near[picture, 2 * stride, row, column])
                    if stride == 8:
                        voices += [
                            near[picture, 8, 2 * row + a, 2 * column + b]
                            for a in (0, 1)
                            for b in (0, 1)
                        ]
                    voices[1:] = [(s * (side(b) < LIMIT), b, p) for s, b, p in voices[1:]]
                    score, box, points = max(voices, key=lambda voice: voice[0])
                    told.append(np.concatenate([[score], box, points.ravel()]))
    return np.array(told).reshape(2, -1, 15)


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
    want = told_by_loops(cell_by_cell(near, 2 * SIZE, 2), cell_by_cell(plain, SIZE, 1))
    told = np.asarray(told)
    np.testing.assert_allclose(told[..., 0], want[..., 0], atol=1e-5)
    sure = want[..., 0] > 0
    assert 0.5 < sure.mean() < 1
    np.testing.assert_allclose(told[sure], want[sure], rtol=1e-4, atol=1e-3)


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


def test_a_small_face_is_told_by_the_enlarged_look_alone(network):
    """One sure small face in the enlarged picture, none in the plain one, and the other way round."""
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
    near["class_logits"][0, 5] = [-3, 3]  # stride 8, row 0, column 5: a face of 8 enlarged pixels
    plain["class_logits"][0, 2] = [-3, 3]  # stride 8: the plain look on a small face does not count
    imitation._look = lambda pictures: near if pictures.shape[1] == 2 * SIZE else plain
    pictures = np.zeros((1, 2 * SIZE, 2 * SIZE, 3), np.float32)
    told = np.asarray(imitation.targets(pictures, shrink(pictures)))[0]
    assert np.flatnonzero(told[:, 0] > 0.5).tolist() == [2]
    # The enlarged cell covers x 40..48, y 0..8: in the picture itself half of that.
    np.testing.assert_allclose(told[2, 1:5], [20, 0, 24, 4], atol=1e-4)


def test_shrinking_takes_means():
    pictures = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    want = pictures.reshape(2, 2, 2, 2, 2, 3).astype(float).mean(axis=(2, 4))
    np.testing.assert_allclose(shrink(pictures), want)


def test_levels_have_to_fit():
    check_levels(YUNET)
    with pytest.raises(ConfigError, match="one anchor a cell"):
        check_levels(build_retinaface("mobilenet0.25").config)
    with pytest.raises(ConfigError, match="double"):
        check_levels(dataclasses.replace(YUNET, levels=YUNET.levels[::2]))


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
