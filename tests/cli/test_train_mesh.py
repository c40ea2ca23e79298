"""`train-mesh` refuses, before the work begins, weights that are there already."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from retinaface_tf import cli
from retinaface_tf.data.readers.mesh_labels import MeshLabels
from retinaface_tf.errors import ConfigError
from retinaface_tf.training.dense_features import DenseFeaturesConfig, examples_name

cli.with_commands()


@pytest.mark.parametrize("name", ["mesh.weights.h5", "head.npz", "frozen.weights.h5"])
def test_weights_of_others_are_not_replaced(tmp_path, name):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine")
    result = CliRunner().invoke(
        cli.app, ["train-mesh", str(tmp_path / "labels"), "--out", str(tmp_path / "out")]
    )
    assert isinstance(result.exception, ConfigError)
    assert f"{name} is there already" in str(result.exception)
    assert (tmp_path / "out" / name).read_text() == "mine"


@pytest.mark.parametrize(
    "words, said",
    [
        (("--out", "file"), "The folder file cannot be made"),
        (("--set", "batch=0"), "batch=0 must be at least 1"),
        (("--set", "learning_rate=-1"), "learning_rate=-1.0 must be at least 0"),
    ],
)
def test_what_cannot_be_is_one_sentence(tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    result = CliRunner().invoke(cli.app, ["train-mesh", "labels", *words])
    assert isinstance(result.exception, ConfigError) and said in str(result.exception)


def test_a_stopped_run_goes_on_with_examples_of_its_own_labels_and_settings_alone():
    faces, points = np.zeros((2, 4), np.float32), np.zeros((2, 5, 3), np.float32)
    none = np.zeros(2, np.float32)
    labels = MeshLabels(
        ["a.jpg"], none.astype(np.int32), faces, points[..., :2], points, none, none
    )
    config = DenseFeaturesConfig()
    others = [
        (dataclasses.replace(labels, images=["\udcff.jpg"]), config),
        (dataclasses.replace(labels, boxes=faces + 1), config),
        (dataclasses.replace(labels, vertices=points + 1), config),
        (labels.keep(np.array([0])), config),
        (labels, DenseFeaturesConfig(versions=4)),
    ]
    names = {examples_name(*other) for other in others}
    assert len(names) == 5 and examples_name(labels, config) not in names
    assert examples_name(labels.keep(np.array([0, 1])), DenseFeaturesConfig()) == examples_name(
        labels, config
    )
