"""A teacher that sees several views of each image gives every cell its targets."""

import dataclasses

import keras
import numpy as np
import pytest

from retinaface_tf import build_retinaface
from retinaface_tf.errors import ConfigError, TrainingDiverged
from retinaface_tf.geometry.anchors import generate_anchors
from retinaface_tf.losses import distillation as distillation_file
from retinaface_tf.losses.config import DISTILLATION_TERMS, DistillationConfig, LossConfig
from retinaface_tf.losses.distillation import Distillation, shrink
from retinaface_tf.presets import YUNET
from retinaface_tf.training.config import InitConfig, OptimizerConfig
from retinaface_tf.training.step import DetectorTraining
from retinaface_tf.training.trainer import train
from retinaface_tf.weights.hdf5 import save_weights
from tests.helpers.small_run import VALUES, small_config

SIZE, STRIDES = 64, (8, 16, 32)
NO_LABELS = {"class_weight": 0.0, "box_weight": 0.0, "landmark_weight": 0.0}


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    return build_retinaface("lite")


def outputs(rng, size, images=2):
    """Random outputs of a network, faces of many sizes and a few that are sure."""
    cells = sum((size // stride) ** 2 for stride in STRIDES)
    draw = {
        name: rng.normal(0, scale, (images, cells, width)).astype(np.float32)
        for name, width, scale in (
            ("class_logits", 2, 2.0),
            ("box_deltas", 4, 4.0),
            ("landmark_deltas", 10, 4.0),
        )
    }
    return draw


def cell_by_cell(found, size, scale):
    """{(image, stride, row, column): score, corner box, points in plain pixels}, as YuNet has it.

    An anchor has the stride's side and lies in the middle of its cell; variances are 0.1 and 0.2.
    """
    cells = {}
    for image in range(len(found["class_logits"])):
        number = 0
        for stride in STRIDES:
            for row in range(size // stride):
                for column in range(size // stride):
                    background, face = np.float64(found["class_logits"][image, number])
                    dx, dy, dw, dh = np.float64(found["box_deltas"][image, number])
                    x, y = (column + 0.5) * stride, (row + 0.5) * stride
                    cx, cy = x + 0.1 * dx * stride, y + 0.1 * dy * stride
                    w, h = stride * np.exp(0.2 * dw), stride * np.exp(0.2 * dh)
                    points = np.float64(found["landmark_deltas"][image, number]).reshape(5, 2)
                    cells[image, stride, row, column] = (
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


def complete_iou_loss(a, b):
    """1 - CIoU (Zheng et al. 2020, equations 7 to 11)."""
    (aw, ah), (bw, bh) = a[2:] - a[:2], b[2:] - b[:2]
    hull = np.maximum(a[2:], b[2:]) - np.minimum(a[:2], b[:2])
    apart = (a[:2] + a[2:] - b[:2] - b[2:]) / 2
    aspect = 4 / np.pi**2 * (np.arctan(bw / bh) - np.arctan(aw / ah)) ** 2
    loss = 1 - iou(a, b)
    return loss + apart @ apart / (hull @ hull) + aspect * aspect / (loss + aspect)


def logit(score):
    score = min(max(score, 1e-4), 1 - 1e-4)
    return np.log(score / (1 - score))


def targets_by_loops(views):
    """[images, cells, 15] view by view, face by face and cell by cell; the first view is the plain one."""
    targets = []
    for image in sorted({key[0] for key in views[0]}):
        surest = []
        for view in views:
            faces = [value for key, value in view.items() if key[0] == image]
            surest.append(sorted(faces, key=lambda face: -face[0])[:96])
        for own, box, points in (v for key, v in views[0].items() if key[0] == image):
            votes = []
            for faces in surest:
                chances = [
                    (score * np.clip((iou(box, face) - 0.3) / 0.2, 0, 1), face, five)
                    for score, face, five in faces
                ]
                votes.append(max(chances, key=lambda chance: chance[0]))
            total = sum(vote for vote, _, _ in votes)
            if total > 0:
                best = max([s for s, face, _ in surest[0] if iou(box, face) >= 0.3] + [own])
                moved = logit(own) + logit(total / len(views)) - logit(best)
                place = [vote * np.concatenate([face, five.ravel()]) for vote, face, five in votes]
                targets.append([1 / (1 + np.exp(-moved)), *(sum(place) / total)])
            else:
                targets.append([min(own, 0.02), *box, *points.ravel()])
    return np.array(targets).reshape(2, -1, 15)


def mirror(cells):
    """Faces of a mirror image as they lie in the image: left and right eye, and mouth corners, swapped."""

    def one(score, box, points):
        points = points[[1, 0, 2, 4, 3]] * [-1, 1] + [SIZE, 0]
        return score, np.array([SIZE - box[2], box[1], SIZE - box[0], box[3]]), points

    return {key: one(*value) for key, value in cells.items()}


def silent(size):
    """Outputs of a network that sees nothing anywhere."""
    cells = sum((size // stride) ** 2 for stride in STRIDES)
    logits = np.tile(np.float32([20, -20]), (1, cells, 1))
    deltas = np.zeros((1, cells, 14), np.float32)
    return {
        "class_logits": logits,
        "box_deltas": deltas[..., :4],
        "landmark_deltas": deltas[..., 4:],
    }


def teacher_that_predicts(network, answers, **views):
    """A distillation whose teacher gives these answers, by the side of what it is shown."""
    distillation = Distillation(network, SIZE, DistillationConfig(source="teacher.h5", **views))
    distillation._teacher = lambda images: answers[images.shape[1]]
    return distillation


@pytest.fixture
def views(network, rng):
    """A distillation whose teacher gives random answers to three views, and those answers."""
    answers = {size: outputs(rng, size) for size in (64, 96, 128)}
    distillation = teacher_that_predicts(network, answers, scales=(2.0,), mirrored=(1.5,))
    images = np.zeros((2, 2 * SIZE, 2 * SIZE, 3), np.float32)
    return distillation, answers, distillation.targets(images, shrink(images))


def test_every_cell_gets_the_votes_of_the_views(views):
    _, answers, targets = views
    plain = cell_by_cell(answers[64], 64, 1)
    others = [cell_by_cell(answers[128], 128, 2), mirror(cell_by_cell(answers[96], 96, 1.5))]
    want = targets_by_loops([plain, *others])
    targets = np.asarray(targets)
    np.testing.assert_allclose(targets[..., 0], want[..., 0], atol=2e-4)
    np.testing.assert_allclose(targets[..., 1:], want[..., 1:], rtol=1e-3, atol=2e-2)
    assert (want[..., 0] <= 0.02).any() and (want[..., 0] > 0.3).any()


def test_the_loss_is_that_of_plain_loops(views, rng):
    distillation, _, targets = views
    student = outputs(rng, SIZE)
    sums = distillation.sums(student, targets)
    found, targets = cell_by_cell(student, SIZE, 1), np.float64(targets)
    logits = np.float64(student["class_logits"])
    logits = logits[..., 1] - logits[..., 0]
    q = np.clip(targets[..., 0], 1e-5, 1 - 1e-5)
    p = 1 / (1 + np.exp(-logits))
    divergence = q * np.log(q / p) + (1 - q) * np.log((1 - q) / (1 - p))
    np.testing.assert_allclose(sums.class_sum, divergence.sum(1), rtol=1e-4)
    np.testing.assert_allclose(sums.scores, targets[..., 0].sum(1), rtol=1e-5)
    boxes = np.array([box for _, box, _ in found.values()]).reshape(2, -1, 4)
    points = np.array([five for _, _, five in found.values()]).reshape(2, -1, 10)
    distance = np.zeros(2)
    for image, cell in np.argwhere(targets[..., 0] > 0.2):
        apart = np.abs(points[image, cell] - targets[image, cell, 5:])
        apart /= side(targets[image, cell, 1:5])
        each = np.where(apart < 0.1, apart**2 / 0.2, apart - 0.05)
        distance[image] += targets[image, cell, 0] * each.sum()
    np.testing.assert_allclose(sums.landmark_sum, distance, rtol=1e-3)
    overlap = np.zeros(2)
    for image, cell in np.argwhere(targets[..., 0] > 0.2):
        score, want = targets[image, cell, 0], targets[image, cell, 1:5]
        overlap[image] += score * complete_iou_loss(boxes[image, cell], want)
    np.testing.assert_allclose(sums.box_sum, overlap, rtol=1e-3)


def test_predicting_the_targets_costs_nothing(views):
    distillation, answers, _ = views
    targets = distillation._decode(answers[SIZE], distillation._anchors)
    for value in distillation.sums(answers[SIZE], targets)[:3]:
        np.testing.assert_allclose(value, 0, atol=2e-3)


@pytest.mark.parametrize("shift", [0.0, 3.0, 6.0])
def test_views_vote_for_faces_and_places(network, shift):
    """A face the plain view doubts and the enlarged one is sure of; and one that only the plain view sees.

    The plain view's box is 8 pixels wide and lies `shift` pixels beside that of the enlarged view.
    """
    near, plain = silent(2 * SIZE), silent(SIZE)
    # Row 0 and column 1 at stride 16 of the enlarged image: in the plain one x 8..16, y 0..8.
    near["class_logits"][0, 256 + 1] = [0, np.log(0.9 / 0.1)]
    plain["class_logits"][0, 1] = [0, np.log(0.1 / 0.9)]
    plain["box_deltas"][0, 1, 0] = 10 * shift / 8
    plain["class_logits"][0, 40] = [0, np.log(0.6 / 0.4)]
    answers = {SIZE: plain, 2 * SIZE: near}
    distillation = teacher_that_predicts(network, answers, scales=(2.0,), mirrored=())
    images = np.zeros((1, 2 * SIZE, 2 * SIZE, 3), np.float32)
    targets = np.asarray(distillation.targets(images, shrink(images)))[0]
    # IoU 1, 5/11 and 1/7: counted whole, for the most part and not at all.
    well = {0.0: 1.0, 3.0: (5 / 11 - 0.3) / 0.2, 6.0: 0.0}[shift]
    assert targets[1, 0] == pytest.approx((0.1 + 0.9 * well) / 2, abs=1e-3)
    assert targets[40, 0] == pytest.approx(0.3, abs=1e-3)
    left = 8 + shift * 0.1 / (0.1 + 0.9 * well)
    np.testing.assert_allclose(targets[1, 1:5], [left, 0, left + 8, 8], atol=1e-2)
    assert np.delete(targets[:, 0], [1, 40]).max() <= 0.02


def test_boxes_may_be_those_of_the_plain_view_and_faces_those_of_the_labels(network):
    near, plain = silent(2 * SIZE), silent(SIZE)
    for cell, shift in ((1, 0.0), (5, 2.0)):
        plain["class_logits"][0, cell] = [0, np.log(0.3 / 0.7)]
        plain["box_deltas"][0, cell, 0] = 10 * shift / 8
        near["class_logits"][0, 256 + cell] = [0, np.log(0.9 / 0.1)]
    answers = {SIZE: plain, 2 * SIZE: near}
    images = np.zeros((1, 2 * SIZE, 2 * SIZE, 3), np.float32)
    labelled = np.float32([[[9, 1, 15, 8], [0, 0, 0, 0]]])

    def targets(**options):
        distillation = teacher_that_predicts(
            network, answers, scales=(2.0,), mirrored=(), **options
        )
        return np.asarray(distillation.targets(images, shrink(images), labelled))[0]

    assert targets()[5, 1] == pytest.approx(40.5, abs=1e-3)  # of 42 at 0.3 and 40 at 0.9
    assert targets(boxes="plain")[5, 1] == pytest.approx(42, abs=1e-3)
    everywhere, known = targets(), targets(background="unlabelled")
    assert known[1, 0] == pytest.approx(everywhere[1, 0]) and known[1, 0] > 0.5
    assert everywhere[5, 0] > 0.5 and known[5, 0] <= 0.02
    np.testing.assert_array_equal(targets(background="empty"), everywhere)
    labelled = np.zeros((1, 2, 4), np.float32)
    empty = targets(background="empty")
    assert empty[:, 0].max() <= 0.02 and everywhere[:, 0].max() > 0.5


def test_a_face_of_a_crowd_keeps_its_score_though_it_is_not_among_the_boxes_compared(
    network, monkeypatch
):
    monkeypatch.setattr(distillation_file, "_FACES", 1)
    plain = silent(SIZE)
    plain["class_logits"][0, [1, 5]] = [[0, np.log(0.9 / 0.1)], [0, np.log(0.3 / 0.7)]]
    distillation = teacher_that_predicts(network, {SIZE: plain}, scales=(), mirrored=())
    images = np.zeros((1, SIZE, SIZE, 3), np.float32)
    targets = np.asarray(distillation.targets(images, images))[0]
    assert targets[1, 0] == pytest.approx(0.9, abs=1e-3)
    assert targets[5, 0] == pytest.approx(0.3, abs=1e-3)
    np.testing.assert_allclose(targets[5, 1:5], [40, 0, 48, 8], atol=1e-2)


def test_hints_compare_maps_of_both_networks(network, rng):
    options = DistillationConfig(source="t.h5", scales=(), mirrored=(), features=("block4_2_act",))
    distillation = Distillation(network, SIZE, options)
    assert options.enlarged == 1 and DistillationConfig(source="t.h5").enlarged == 2
    images = rng.uniform(0, 255, (2, SIZE, SIZE, 3)).astype(np.float32)
    assert {*distillation.maps(images)} == {"block4_2_act"}
    targets = distillation.targets(images, images)
    theirs = rng.normal(0, 2, (2, 8, 8, 64)).astype(np.float32)
    student = {**outputs(rng, SIZE), "block4_2_act": theirs * np.float32([[[[1.5]]], [[[1.0]]]])}
    found = np.asarray(distillation.sums(student, targets, {"block4_2_act": theirs}).feature_sum)
    power = np.square(theirs).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(found, [0.25 * power[0] / power.mean(), 0], rtol=1e-4)
    with pytest.raises(ConfigError, match="'block9', a layer that"):
        Distillation(network, SIZE, DistillationConfig(source="t.h5", features=("block9",)))


def test_a_mirror_image_is_turned_back(network):
    """A teacher that knows where the one white pixel is sees it in the same place in every view."""

    def find(images):
        size = images.shape[1]
        answer = silent(size)
        row, column = np.argwhere(np.asarray(images)[0, ..., 0] > 30).mean(0) + 0.5
        cell = int(row / 8) * (size // 8) + int(column / 8)
        answer["class_logits"][0, cell] = [-9, 9]
        x, y = (int(column / 8) + 0.5) * 8, (int(row / 8) + 0.5) * 8
        answer["box_deltas"][0, cell, :2] = np.array([column - x, row - y]) / 0.8
        answer["landmark_deltas"][0, cell, :2] = 1.0  # the first point, right and below the centre
        return answer

    distillation = teacher_that_predicts(network, {})
    distillation._teacher = find
    enlarged = np.zeros((1, 2 * SIZE, 2 * SIZE, 3), np.float32)
    enlarged[0, 20:24, 36:40] = 255
    for scale, mirrored in ((2.0, False), (2.0, True), (1.0, False), (1.0, True)):
        seen = np.asarray(distillation.view(enlarged, scale, mirrored))[0]
        _, *box = seen[seen[:, 0].argmax(), :5]
        np.testing.assert_allclose((np.add(box[:2], box[2:]) / 2), [19, 11], atol=0.3)
        points = seen[seen[:, 0].argmax(), 5:].reshape(5, 2)
        # In a mirror the first of the five is what the image has as the second.
        moved = int(np.abs(points - points[2]).sum(1).argmax())
        assert moved == (1 if mirrored else 0)
        assert np.sign(points[moved] - points[2])[0] == (-1 if mirrored else 1)


def test_shrinking_takes_means():
    images = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    want = images.reshape(2, 2, 2, 2, 2, 3).astype(float).mean(axis=(2, 4))
    np.testing.assert_allclose(shrink(images), want)


def test_student_and_teacher_need_the_same_anchors(network):
    distillation = Distillation(network, SIZE, DistillationConfig(source="teacher.h5"))
    distillation.check(YUNET)
    with pytest.raises(ConfigError, match=r"teacher\.h5 has other levels"):
        distillation.check(dataclasses.replace(YUNET, levels=YUNET.levels[:2]))


def test_something_has_to_teach(network):
    anchors = generate_anchors(network.config.levels, SIZE, SIZE)
    with pytest.raises(ConfigError, match=r"distillation\.source"):
        DetectorTraining(network, anchors, LossConfig(**NO_LABELS), OptimizerConfig())


def test_terms_beside_the_teacher_see_the_images_of_the_student(network, monkeypatch):
    """Dense terms compute in pixels of the network's input, not of the teacher's enlarged images."""
    anchors = generate_anchors(network.config.levels, SIZE, SIZE)
    distillation = Distillation(network, SIZE, DistillationConfig(source="teacher.h5"))
    options = LossConfig(), OptimizerConfig()
    model = DetectorTraining(network, anchors, *options, distillation=distillation)
    seen = {}
    monkeypatch.setattr(
        model.objective, "total_loss", lambda outputs, targets, batch, **rest: seen.update(batch)
    )
    enlarged = np.arange(2 * SIZE * 2 * SIZE * 3, dtype=np.float32).reshape(
        1, 2 * SIZE, 2 * SIZE, 3
    )
    model._total_loss({"image": enlarged, "image_id": 7})
    np.testing.assert_array_equal(seen["image"], shrink(enlarged))
    assert seen["image_id"] == 7


@pytest.fixture
def student_config(tmp_path):
    """A small run with a teacher that starts from other weights than the teacher's."""
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
        distillation={"source": str(files[0]), "least_score": 0.1},
        loss=NO_LABELS,
        optimizer={"kind": "adam", "weight_decay": 0.0, "ema": 0.9},
        schedule={"kind": "cosine", "peak": 0.02, "warmup_epochs": 0},
        checkpoint_steps=3,
    )


def test_a_student_nears_its_teacher(student_config, tmp_path):
    losses = []
    train(student_config, tmp_path / "run", on_step=lambda _, logs: losses.append(logs["loss"]))
    assert len(losses) == 12 and np.mean(losses[-4:]) < 0.9 * np.mean(losses[:4])
    header = (tmp_path / "run/metrics.csv").read_text().splitlines()[0].split(",")
    assert set(DISTILLATION_TERMS) <= set(header)


def test_a_student_with_new_layers_below_learns_the_maps_above(student_config, tmp_path):
    options = {"scales": (), "mirrored": (), "features": ("block4_2_act",)}
    config = dataclasses.replace(
        student_config,
        network=dataclasses.replace(YUNET, backbone="yunet-dense"),
        init=InitConfig(source=student_config.distillation.source, fresh=("stem",)),
        distillation=dataclasses.replace(student_config.distillation, **options),
    )
    losses = []
    train(config, tmp_path / "run", on_step=lambda _, logs: losses.append(logs))
    maps = [float(log["distilled_features"]) for log in losses]
    assert np.mean(maps[-4:]) < 0.9 * np.mean(maps[:4])
    with pytest.raises(ConfigError, match="no layer stem1_conv"):
        train(dataclasses.replace(config, init=student_config.init), tmp_path / "other")


@pytest.mark.slow
def test_a_stopped_run_goes_on(student_config, tmp_path):
    losses = {"whole": {}, "parts": {}}

    def note(run):
        return lambda step, logs: losses[run].update({step: float(logs["loss"])})

    train(student_config, tmp_path / "whole", on_step=note("whole"))

    def stop(step, logs):
        note("parts")(step, logs)
        if step == 5:
            raise TrainingDiverged("stopped")

    with pytest.raises(TrainingDiverged):
        train(student_config, tmp_path / "parts", on_step=stop)
    train(student_config, tmp_path / "parts", on_step=note("parts"))
    # Adam's moments and the average are in the checkpoint too.
    assert losses["parts"] == losses["whole"]


@pytest.mark.slow
def test_labels_may_teach_beside_the_teacher(student_config, tmp_path):
    logs = []
    config = dataclasses.replace(student_config, loss=LossConfig(), epochs=1)
    train(config, tmp_path / "both", on_step=lambda step, log: logs.append(log))
    names = ("class", "box", "landmark", *DISTILLATION_TERMS[:3])
    for log in logs:
        values = [float(log[name]) for name in names]
        assert float(log["loss"]) == pytest.approx(sum(values), rel=1e-5) and min(values) >= 0
        # Positives are cells matched with labels, not the teacher's scores: whole numbers in two images.
        assert float(log["positives"]) * 2 == pytest.approx(
            round(float(log["positives"]) * 2), abs=1e-4
        )
