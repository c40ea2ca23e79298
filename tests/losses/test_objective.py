"""The objective: which terms there are, their weights, and what each is divided by."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from keras import ops

from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.geometry.anchors import generate_anchors
from retinaface_tf.losses.config import DistillationConfig, LossConfig
from retinaface_tf.losses.distillation import DistillationSums
from retinaface_tf.losses.multitask import multitask_sums
from retinaface_tf.losses.objective import Objective
from retinaface_tf.presets import get_preset, list_presets

PLAIN = RetinaFaceConfig()
ANCHORS = generate_anchors(PLAIN.levels, 64, 64)
WEIGHTS = {"class_weight": 2.0, "box_weight": 3.0, "landmark_weight": 5.0}
LOSS = LossConfig(**WEIGHTS, mesh_weight=7.0, pixel_weight=11.0)


def predictions(rng, prefix=""):
    widths = {"class_logits": 2, "box_deltas": 4, "landmark_deltas": 10}
    if prefix:
        del widths["landmark_deltas"]
    return {
        prefix + name: rng.normal(0, 1, (2, len(ANCHORS), width)).astype(np.float32)
        for name, width in widths.items()
    }


def targets(rng, positives):
    """Of two images, the first with so many positives, the second with one."""
    labels = np.zeros((2, len(ANCHORS)), np.int32)
    labels[0, :positives] = labels[1, 3] = 1
    widths = {"box_deltas": 4, "landmark_deltas": 10}
    values = {
        name: rng.normal(0, 1, (2, len(ANCHORS), width)).astype(np.float32)
        for name, width in widths.items()
    }
    return {"labels": labels, "landmark_mask": np.ones((2, len(ANCHORS), 5), np.float32), **values}


class Teacher:
    """A distillation whose sums are known."""

    config = DistillationConfig(class_weight=13.0, box_weight=17.0, landmark_weight=19.0)

    def sums(self, outputs, teacher_targets, teacher_maps):
        assert teacher_targets == "targets" and teacher_maps == {}
        rows = ([1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [0.0, 0.0], [0.5, 1.5])
        return DistillationSums(*(ops.convert_to_tensor(row) for row in rows))


def dense_term(*values):
    return lambda batch, outputs, targets: ops.convert_to_tensor(np.float32(values))


def in_numpy(losses):
    return {name: np.asarray(value) for name, value in losses.items()}


def test_every_term_has_its_weight_and_its_divisor(rng):
    cascade = RetinaFaceConfig(cascade=True)
    outputs = predictions(rng) | predictions(rng, "first_")
    first, last = targets(rng, 4), targets(rng, 9)
    objective = Objective(
        cascade,
        ANCHORS,
        LOSS,
        mesh=dense_term(20, 30),
        pixel=dense_term(40, 50),
        distillation=Teacher(),
        weight_decay=0.25,
    )
    kernels = [np.float32([[1, 2], [3, 4]]), np.float32([5])]
    losses, counts = objective.total_loss(
        outputs, last, {}, first_targets=first, teacher_targets="targets", kernels=kernels
    )
    losses, counts = in_numpy(losses), in_numpy(counts)
    assert counts == {"first_positives": 5, "positives": 10, "teacher_scores": 2}
    early = {name: outputs[f"first_{name}"] for name in ("class_logits", "box_deltas")}
    early["landmark_deltas"] = first["landmark_deltas"]
    a = multitask_sums(early, first, ANCHORS, LOSS, (0.1, 0.2))
    b = multitask_sums(outputs, last, ANCHORS, LOSS, (0.1, 0.2))
    want = {
        "first_class": 2 * np.asarray(a.class_sum) / 5,
        "first_box": 3 * np.asarray(a.box_sum) / 5,
        "class": 2 * np.asarray(b.class_sum) / 10,
        "box": 3 * np.asarray(b.box_sum) / 10,
        "landmark": 5 * np.asarray(b.landmark_sum) / 10,
        "mesh": np.array([7 * 20, 7 * 30]) / 10,
        "pixel": np.array([11 * 40, 11 * 50]) / 10,
        "distilled_class": 13 * np.array([1, 2]) / 2,
        "distilled_box": 17 * np.array([3, 4]) / 2,
        "distilled_landmark": 19 * np.array([5, 6]) / 2,
        "weight_decay": 0.5 * 0.25 * (1 + 4 + 9 + 16 + 25),
    }
    assert list(losses) == list(want) and list(objective.terms) == list(want)[:-1]
    for name, value in want.items():
        np.testing.assert_allclose(losses[name], value, rtol=1e-5, err_msg=name)


def test_counts_are_those_of_all_replicas(rng):
    """Two halves of a batch, each divided by the counts of both, are the whole batch."""
    outputs, wanted = predictions(rng), targets(rng, 6)
    objective = Objective(PLAIN, ANCHORS, LossConfig())
    whole, counts = objective.total_loss(outputs, wanted, {})
    for image in range(2):
        half = [{k: v[image : image + 1] for k, v in part.items()} for part in (outputs, wanted)]
        losses, _ = objective.total_loss(*half, {}, reduce=lambda own: counts)
        for name in objective.terms:
            np.testing.assert_allclose(losses[name][0], whole[name][image], rtol=1e-5)


def test_a_batch_without_faces_is_divided_by_one(rng):
    outputs, nothing = predictions(rng), targets(rng, 0)
    nothing["labels"][:] = 0
    losses, counts = Objective(PLAIN, ANCHORS, LossConfig()).total_loss(outputs, nothing, {})
    assert float(counts["positives"]) == 0 and np.isfinite(losses["class"]).all()
    assert not np.any(losses["box"]) and not np.any(losses["landmark"])


def test_where_labels_teach_nothing_they_are_not_read():
    none = dict.fromkeys(WEIGHTS, 0.0)
    for network in (PLAIN, RetinaFaceConfig(cascade=True)):
        objective = Objective(network, ANCHORS, LossConfig(**none), distillation=Teacher())
        losses, counts = objective.total_loss({}, {}, {}, teacher_targets="targets")
        names = ["distilled_class", "distilled_box", "distilled_landmark"]
        assert list(objective.terms) == names and list(losses) == [*names, "weight_decay"]
        assert list(counts) == ["teacher_scores"]


def test_only_kernels_that_learn_decay():
    from retinaface_tf.models import build_retinaface
    from retinaface_tf.models.parts import freeze
    from retinaface_tf.training.config import OptimizerConfig
    from retinaface_tf.training.step import DetectorTraining

    network = build_retinaface(RetinaFaceConfig(channels=16))
    freeze(network, ("backbone",))
    model = DetectorTraining(
        network, np.zeros((1, 4)), LossConfig(), OptimizerConfig(weight_decay=0.25)
    )
    given = {}
    model._forward = lambda images: {}
    model.objective = SimpleNamespace(
        distillation=None, cascade=False, total_loss=lambda *_, **options: given.update(options)
    )
    model._total_loss({"image": None})
    wanted = [
        layer.kernel
        for layer in network.layers
        if getattr(layer, "kernel", None) is not None and not layer.name.startswith(("stem", "bl"))
    ]
    assert len(wanted) > 10 and len(given["kernels"]) == len(wanted)
    for kernel, variable in zip(given["kernels"], wanted):
        np.testing.assert_array_equal(kernel, variable)


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("KERAS_BACKEND") == "jax", reason="is that run")
def test_the_objective_runs_on_jax():
    pytest.importorskip("jax")
    here = Path(__file__)
    tests = [here, *map(here.with_name, ("test_mesh_loss.py", "test_positives.py"))]
    # Those left out need TensorFlow, or double precision in means, which Keras on JAX lacks.
    chosen = ("-k", "not kernels and not slope and not papers and not topology and not moved")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *map(str, tests), *chosen],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        cwd=here.parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]


def test_the_papers_anchors_measure_in_their_own_sizes():
    """Only cells that have faces of all sizes by one anchor count in the face's."""
    ours = {name for name in list_presets() if get_preset(name).config.one_anchor_a_cell}
    assert ours == {"lite", "yunet"}
