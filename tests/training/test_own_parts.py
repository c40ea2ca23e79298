"""A user's module outside the package: its backbone, reader and loss train, and its weights load again."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from retinaface_tf import register_backbone
from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.data.readers.registry import READERS, read_labels, register_reader
from retinaface_tf.errors import ConfigError, RetinaFaceError
from retinaface_tf.models import build_retinaface
from retinaface_tf.training.command import resolve_config
from retinaface_tf.weights.hdf5 import save_weights
from retinaface_tf.weights.load import load_weights
from tests.helpers.own_parts import OWN_TRAINING, PAGE, write_own_parts

NAME = "my_faces:mobilenet_v3"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The page's module, with photos and their CSV file."""
    folder = tmp_path_factory.mktemp("user")
    code = write_own_parts(folder)
    backbone = re.search(r"def mobilenet_v3.*?\n\n\n", code, re.DOTALL)[0]
    assert len(backbone.splitlines()) < 40
    return folder


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    package = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, "-m", "retinaface_tf", *arguments],
        cwd=folder,
        env=os.environ
        | {
            "PYTHONPATH": str(package),
            "CUDA_VISIBLE_DEVICES": "-1",
            "RETINAFACE_TF_CACHE": str(folder / "cache"),
        },
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_the_page_s_module_trains_and_its_weights_load_where_it_is_imported(folder):
    checked = run(
        folder, "--import", "my_faces.py", "data", "check", "my_faces:csv", "faces.csv", "."
    )
    assert "checked 4 images: no problem" in checked.stdout
    trained = run(
        folder,
        "--import",
        "my_faces",
        "train",
        "--data",
        "my_faces:csv",
        "--out",
        "run",
        *OWN_TRAINING,
    )
    assert trained.returncode == 0, trained.stderr
    assert "own" in (folder / "run/train.log").read_text()
    weights = "run/last.weights.h5"
    missing = run(folder, "detect", "0.png", "--model", weights)
    assert missing.returncode == 1 and "registered by the module 'my_faces'" in missing.stderr
    assert missing.stderr.strip().splitlines()[-1].startswith("error: ")
    found = run(folder, "--import", "my_faces", "detect", "0.png", "--model", weights)
    assert found.returncode == 0, found.stderr


@pytest.mark.slow
def test_weights_load_after_registration_and_name_their_module_before(
    folder, tmp_path, monkeypatch
):
    from retinaface_tf.models import backbones

    monkeypatch.setattr(backbones, "_OWN", {})
    config = RetinaFaceConfig(backbone=NAME, channels=16)
    with pytest.raises(ConfigError, match=r"module 'my_faces', which was not imported"):
        build_retinaface(config)
    monkeypatch.syspath_prepend(str(folder))
    import my_faces  # registers in `backbones._OWN`

    network = build_retinaface(config)
    image = np.random.default_rng(0).uniform(0, 255, (1, 64, 96, 3)).astype(np.float32)
    wanted = network(image)
    files = [save_weights(network, tmp_path / "a.weights.h5"), tmp_path / "a.keras"]
    network.save(files[1])
    for file in files:
        np.testing.assert_array_equal(load_weights(file)(image)["box_deltas"], wanted["box_deltas"])
    backbones._OWN.clear()
    for file in files:
        with pytest.raises(RetinaFaceError, match=r"registered by the module 'my_faces'") as caught:
            load_weights(file)
        assert "damaged" not in str(caught.value)
    register_backbone(NAME, my_faces.mobilenet_v3)
    register_backbone(NAME, my_faces.mobilenet_v3)
    with pytest.raises(
        ConfigError, match=r"'my_faces:mobilenet_v3' already, my_faces\.mobilenet_v3"
    ):
        register_backbone(NAME, lambda image, slope: {})
    with pytest.raises(ConfigError, match="must be 'module:name'"):
        register_backbone("mine", my_faces.mobilenet_v3)


def test_the_script_of_a_checkout_imports_too(tmp_path, monkeypatch):
    script = runpy.run_path(str(PAGE.parents[1] / "training/train.py"))
    monkeypatch.setattr("retinaface_tf.data.readers.registry.READERS", dict(READERS))
    monkeypatch.setattr(
        "retinaface_tf.training.command.run", lambda config, *_, **__: print(config)
    )
    monkeypatch.setenv("RETINAFACE_TF_IMPORT", "")
    (tmp_path / "own_script.py").write_text(
        "from retinaface_tf import register_reader\n"
        "register_reader('own_script:none', lambda labels, images: [])\n"
    )
    words = ["train.py", "--import", str(tmp_path / "own_script.py"), "--data", "own_script:none"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as end:
        script["run_script"](script["train"])
    assert not end.value.code
    assert read_labels("own_script:none", tmp_path, tmp_path) == []
    assert os.environ["RETINAFACE_TF_IMPORT"] == words[2]  # for workers


def test_an_own_reader_is_a_kind_of_data(tmp_path, monkeypatch):
    monkeypatch.setattr("retinaface_tf.data.readers.registry.READERS", dict(READERS))
    options = {"data.kind": "mine:none"}
    assert resolve_config("synthetic", options, []).data.kind == "mine:none"
    with pytest.raises(ConfigError, match=r"'mine:none' is registered by the module 'mine'"):
        read_labels("mine:none", tmp_path, tmp_path)
    register_reader("mine:none", lambda labels, images: [])
    assert read_labels("mine:none", tmp_path, tmp_path) == []
    with pytest.raises(ConfigError, match=r"choose one of .*labelme"):
        read_labels("mine", tmp_path, tmp_path)
