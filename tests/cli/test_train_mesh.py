"""`train-mesh` refuses, before the work begins, weights that are there already."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from retinaface_tf import cli
from retinaface_tf.errors import ConfigError

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
