"""What workers compare before they train together."""

import subprocess
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from retinaface_tf import __version__
from retinaface_tf.data.readers.annotation import AnnotatedImage
from retinaface_tf.data.sources import LabelledSource
from retinaface_tf.errors import ConfigError
from retinaface_tf.training import agreement
from retinaface_tf.training.agreement import (
    check_agreement,
    code_facts,
    configuration_facts,
    first_difference,
)
from retinaface_tf.training.distributed import Devices, _check_port, _naming_the_missing
from tests.helpers.small_run import small_config
from tests.helpers.waiting import until


def test_one_worker_needs_no_agreement():
    check_agreement(Devices(tf.distribute.get_strategy()), {"a": "1"}, "do something")


def test_the_first_difference_is_told_from_worker_0(monkeypatch):
    everyone = {0: {"a": "1", "b": "2"}, 1: {"a": "1", "b": "2"}, 2: {"a": "1", "b": "9"}}
    monkeypatch.setattr(agreement, "_gather", lambda devices, facts: everyone)
    devices = Devices(tf.distribute.get_strategy(), worker=0, workers=3)
    with pytest.raises(ConfigError, match=r"^Worker 2 has b 9, worker 0 has 2; mend it\.$"):
        check_agreement(devices, everyone[0], "mend it")


def test_a_fact_that_only_one_has_differs():
    assert first_difference({"a": "1"}, {"a": "1"}) is None
    assert first_difference({"a": "1"}, {"a": "1", "b": "2"}) == ("b", "nothing", "2")


def test_configurations_are_compared_option_by_option_but_for_paths():
    config = small_config()
    other = replace(
        config, data=replace(config.data, root="/elsewhere", batch=8), optimizer=config.optimizer
    )
    assert first_difference(configuration_facts(config), configuration_facts(other)) == (
        "data.batch",
        "4",
        "8",
    )
    moved = replace(config, data=replace(config.data, root="/elsewhere", labels="a", images="b"))
    assert configuration_facts(config) == configuration_facts(moved)


def test_code_is_the_commit_and_its_changes_or_the_version(tmp_path, monkeypatch):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("a = 1\n")
    monkeypatch.setattr(agreement, "_PACKAGE", package)
    assert code_facts()["code"] == f"version {__version__}"

    def git(*arguments):
        identity = ["-c", "user.name=x", "-c", "user.email=x"]
        subprocess.run(["git", "-C", package, *identity, *arguments], check=True)

    git("init", "-q")
    # An installed copy inside some other checkout is not that checkout's commit.
    assert code_facts()["code"] == f"version {__version__}"
    git("add", ".")
    git("commit", "-q", "-m", "first")
    clean = code_facts()["code"]
    assert clean.startswith("commit ") and "changes" not in clean
    found = []
    for text in ("a = 2\n", "a = 3\n"):
        (package / "__init__.py").write_text(text)
        found.append(code_facts()["code"])
        assert found[-1].startswith(f"{clean} with changes ")
    assert found[0] != found[1]


def test_data_is_known_by_its_labels_wherever_it_lies(tmp_path):
    def source(folder, shift=0.0, name="0.jpg"):
        boxes = np.array([[1, 2, 30, 40]], np.float32) + np.float32(shift)
        image = AnnotatedImage(
            tmp_path / folder / "0--Parade" / name,
            boxes,
            np.full((1, 5, 2), np.nan, np.float32),
            np.zeros(1, bool),
        )
        return LabelledSource([image])

    digest = source("here").digest()
    assert len(digest) == 12 and digest == source("there").digest()
    assert digest != source("here", shift=1).digest()
    assert digest != source("here", name="1.jpg").digest()


def test_a_busy_port_is_named():
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(
            ConfigError, match=rf"Worker 1 cannot listen on port {port} of localhost:{port} \(Addr"
        ):
            _check_port(f"localhost:{port}", 1)
    _check_port("localhost:0", 1)


def test_workers_that_do_not_answer_are_named(capfd):
    import socket

    found = []

    def line():
        found.append(capfd.readouterr().err)
        return "Start" in "".join(found)

    with socket.socket() as there, socket.socket() as closed:
        for one in (there, closed):
            one.bind(("127.0.0.1", 0))
        there.listen()
        addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in (closed, there, closed)]
        with _naming_the_missing(addresses, own=0, seconds=0.05):
            until(line)
    assert f"waiting for worker 2 ({addresses[2]}): connection refused. Start" in "".join(found)
    assert "worker 1" not in "".join(found)
