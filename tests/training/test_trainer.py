"""A run's files, its stop on a loss that is not finite, its refusals."""

import csv
import dataclasses
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from retinaface_tf.errors import ConfigError, DataError, TrainingDiverged
from retinaface_tf.training.distributed import choose_devices
from retinaface_tf.training.log import RunLog
from retinaface_tf.training.trainer import _Run, train
from retinaface_tf.weights.load import load_weights
from tests.helpers.small_run import VALUES, small_config

# What the evaluations of the watched run are said to find: before it, and after each epoch.
PRECISIONS = (0.1, 0.5, 0.3)


class Watch:
    """What the network's variables were: after each step, at each evaluation, around each epoch's end.

    Every evaluation runs, and its average precision is then that of `PRECISIONS`.

    Attributes:
        live: by step, all variables by name.
        evaluated: by step, the same while the network is evaluated.
        around: pairs of the values before and after an epoch's end.
    """

    def __init__(self, patch):
        self.live, self.evaluated, self.around = {}, {}, []
        init, evaluate, finish_epoch = _Run.__init__, _Run._evaluate, _Run._finish_epoch

        def begin(run, *arguments):
            init(run, *arguments)
            run.on_step = lambda step, logs: self.live.update({step: self.values(run)})

        def watch_evaluation(run, done):
            self.evaluated[run.state.step] = self.values(run)
            evaluation = evaluate(run, done)
            return dataclasses.replace(evaluation, average_precision=PRECISIONS[done])

        def watch_end(run, *arguments):
            before = self.values(run)
            finish_epoch(run, *arguments)
            self.around.append((before, self.values(run)))

        patch.setattr(_Run, "__init__", begin)
        patch.setattr(_Run, "_evaluate", watch_evaluation)
        patch.setattr(_Run, "_finish_epoch", watch_end)

    @staticmethod
    def values(run) -> dict[str, np.ndarray]:
        return {v.path: np.array(v.value) for v in run.network.variables}


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """A run of two epochs with evaluation, moving average and frozen layers, and what it went by."""
    folder = tmp_path_factory.mktemp("run") / "out"
    config = small_config(
        data={**VALUES["data"], "max_validation": 10},
        synthetic={**VALUES["synthetic"], "validation": 4},
        optimizer={"clip_norm": 5.0, "ema": 0.75},
        init={"freeze": ["stem", "block1_"]},
        precision="mixed_bfloat16",
        deterministic=False,
        checkpoint_steps=100,
    )
    with pytest.MonkeyPatch.context() as patch:
        watch = Watch(patch)
        return config, folder, train(config, folder), watch


@pytest.fixture(scope="module")
def finished(watched):
    return watched[:3]


def test_a_run_leaves_its_files(finished):
    config, folder, result = finished
    assert result.steps == 6
    assert (result.before, result.after, result.best) == (0.1, 0.3, 0.5)
    assert json.loads((folder / "config.json").read_text()) == config.to_dict()
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert [float(row["average_precision"]) for row in rows] == list(PRECISIONS)
    assert float(rows[2]["loss"]) > 0
    for name in ("detections.png", "learning.png", "precision_recall.png"):
        assert (folder / name).read_bytes()[:4] == b"\x89PNG"
    for name in ("best.weights.h5", "last.weights.h5"):
        assert load_weights(folder / name).config == config.network
    (events,) = (folder / "tensorboard").iterdir()
    tags = {
        value.tag
        for record in tf.compat.v1.train.summary_iterator(str(events))
        for value in record.summary.value
    }
    assert {"epoch/loss", "epoch/average_precision", "detections", "precision_recall"} <= tags


def test_weights_and_statistics_are_averaged_alike(watched):
    """Evaluated and saved are averages by a plain loop; learning goes on from the live values."""
    _, folder, _, watch = watched
    assert sorted(watch.live) == [1, 2, 3, 4, 5, 6] and sorted(watch.evaluated) == [0, 3, 6]
    network = load_weights(folder / "last.weights.h5")
    saved = {v.path: np.asarray(v.value) for v in network.variables}
    assert saved.keys() == watch.live[6].keys()
    moved = set()
    for name in saved:
        average = np.float64(watch.live[1][name])
        for step in range(2, 7):
            average = 0.75 * average + 0.25 * np.float64(watch.live[step][name])
            if step in watch.evaluated:
                found = watch.evaluated[step][name]
                np.testing.assert_allclose(found, average, rtol=1e-5, atol=1e-7, err_msg=name)
        np.testing.assert_array_equal(saved[name], watch.evaluated[6][name], err_msg=name)
        if name.startswith(("stem", "block1_")):
            np.testing.assert_array_equal(saved[name], watch.live[1][name], err_msg=name)
        elif np.abs(average - watch.live[6][name]).max() > 1e-4:
            moved.add(name.rpartition("/")[2])
    assert {"kernel", "moving_mean", "moving_variance"} <= moved
    # The best epoch was the first, after step 3.
    best = load_weights(folder / "best.weights.h5")
    for variable in best.variables:
        np.testing.assert_array_equal(variable, watch.evaluated[3][variable.path])
    for before, after in watch.around:
        for name in before:
            np.testing.assert_array_equal(before[name], after[name], err_msg=name)


def test_a_checkpoint_without_averaged_statistics_is_refused(finished, tmp_path):
    config, folder, _ = finished
    (path,) = (folder / "checkpoints").glob("step-000000006.npz")
    with np.load(path) as file:
        old = {name: file[name] for name in file.files if not name.startswith("average/")}
    copy = tmp_path / "run"
    (copy / "checkpoints").mkdir(parents=True)
    (copy / "config.json").write_bytes((folder / "config.json").read_bytes())
    np.savez(copy / "checkpoints" / path.name, **old)
    with pytest.raises(DataError, match=r"batch norm's statistics.* init\.source"):
        train(config, copy)


def test_a_finished_run_is_not_done_again(finished):
    config, folder, result = finished
    said, steps = [], []
    again = train(config, folder, notify=said.append, on_step=lambda step, logs: steps.append(step))
    assert not steps and again.after == result.after and "going on from step 6" in said
    with pytest.raises(ConfigError, match="other settings"):
        train(small_config(), folder)


def test_a_folder_of_an_earlier_version_goes_on(finished, tmp_path):
    """Options and terms of distillation were called imitation; `init.narrow` is gone."""
    config, folder, result = finished
    copy = tmp_path / "run"
    shutil.copytree(folder, copy)
    old = config.to_dict()
    old["imitation"] = old.pop("distillation")
    old["init"]["narrow"] = False
    del old["data"]["check"]  # an option that there was not yet
    (copy / "config.json").write_text(json.dumps(old))
    metrics = (copy / "metrics.csv").read_text()
    (copy / "metrics.csv").write_text(metrics.replace("distilled_class", "imitated_class"))
    assert train(config, copy).after == result.after
    assert json.loads((copy / "config.json").read_text()) == config.to_dict()
    old["imitation"]["scales"] = [2.0]
    (copy / "config.json").write_text(json.dumps(old))
    with pytest.raises(ConfigError, match=r"other settings \(distillation\); choose another --out"):
        train(config, copy)
    old["init"]["narrow"] = True
    (copy / "config.json").write_text(json.dumps(old))
    with pytest.raises(ConfigError, match=r"init\.narrow was removed.*; choose another --out"):
        train(config, copy)


def test_rows_of_an_earlier_version_are_read(tmp_path):
    (tmp_path / "metrics.csv").write_text("epoch,step,loss,imitated_box\n1,3,2.5,0.5\n")
    log = RunLog(tmp_path, 1)
    log.add({"epoch": 2, "step": 6, "loss": 2.0, "distilled_box": 0.25})
    log.close()
    with (tmp_path / "metrics.csv").open() as file:
        assert [row["distilled_box"] for row in csv.DictReader(file)] == ["0.5", "0.25"]


def test_a_loss_that_is_not_finite_stops_with_names(tmp_path):
    """A poisoned label: the step, the term and the file are named; the checkpoint stays good."""
    from retinaface_tf.data.sources import LabelledSource

    config = small_config(deterministic=False)
    poisoned = "synthetic-000005.jpg"
    original = LabelledSource.examples

    def examples(self, part):
        number = next(i for i in range(self.count) if self.name(i) == poisoned)

        def poison(example):
            bad = example["landmarks"] + tf.where(example["image_id"] == number, 1e38, 0.0)
            return {**example, "landmarks": bad}

        return original(self, part).map(poison)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LabelledSource, "examples", examples)
        with pytest.raises(TrainingDiverged) as caught:
            train(config, tmp_path / "run")
    message = str(caught.value)
    assert "landmark loss" in message and poisoned in message and "at step " in message
    assert message.count("synthetic-0") == 1
    step = int(message.split("at step ")[1].split(",")[0])
    saved = sorted((tmp_path / "run" / "checkpoints").glob("*.npz"))
    assert step >= 1 and [int(p.stem[5:]) for p in saved][-1:] == ([step - 1] if step > 1 else [])
    for path in saved:
        with np.load(path) as file:
            assert all(np.isfinite(file[n]).all() for n in file.files if n != "state")


def test_a_broken_cluster_description_is_named(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "{")
    with pytest.raises(ConfigError, match="TF_CONFIG"):
        choose_devices()
