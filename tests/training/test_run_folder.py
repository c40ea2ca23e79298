"""The folder of a run: what a person keeps there is neither replaced nor removed."""

from __future__ import annotations

import json

import pytest

from retinaface_tf.errors import ConfigError, DataError
from retinaface_tf.training.command import run
from retinaface_tf.training.run_folder import claim_folder, clear_folder
from tests.helpers.small_run import small_config

WRITTEN = (
    *("metrics.csv", "best.weights.h5", "last.weights.h5", "detections.png", "learning.png"),
    *("precision_recall.png", "checkpoints/step-000000001.npz"),
    "tensorboard/events.out.tfevents.1.host",
)


def fill(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")


@pytest.mark.parametrize("name", WRITTEN)
def test_files_of_a_runs_names_that_no_run_wrote_are_refused(tmp_path, name):
    fill(tmp_path / "out", name)
    with pytest.raises(ConfigError, match=f"{name} is there already and belongs to no run"):
        claim_folder(tmp_path / "out", small_config())
    assert not (tmp_path / "out/config.json").exists()


@pytest.mark.parametrize("text", ["{}", '{"name": "my app"}', "[1]", "text"])
def test_a_config_of_another_program_is_refused(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    for call in (claim_folder, clear_folder):
        with pytest.raises((ConfigError, DataError)):
            call(tmp_path, small_config())
    assert (tmp_path / "config.json").read_text() == text


@pytest.mark.parametrize("place", ["file", "file/deep"])
def test_places_that_cannot_be_are_refused_before_the_work(tmp_path, place):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match="cannot be made"):
        run(small_config(), tmp_path / place, restart=False, quiet=True)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_run_that_came_to_nothing_does_not_hold_its_folder(tmp_path):
    """Such as one whose labels were not found: the next has them right."""
    claim_folder(tmp_path, small_config(seed=1))
    claim_folder(tmp_path, small_config(seed=2))
    fill(tmp_path, "last.weights.h5")
    claim_folder(tmp_path, small_config(seed=2))
    with pytest.raises(ConfigError, match=r"other settings \(seed\).*--restart"):
        claim_folder(tmp_path, small_config(seed=3))


def test_a_configuration_written_by_hand_stays_as_it_is(tmp_path):
    text = json.dumps(small_config().to_dict())
    (tmp_path / "config.json").write_text(text)
    claim_folder(tmp_path, small_config())
    assert (tmp_path / "config.json").read_text() == text


def test_a_restart_removes_what_the_run_wrote_and_nothing_else(tmp_path):
    config = small_config()
    clear_folder(tmp_path / "none", config)
    claim_folder(tmp_path, config)
    own = ("photos/a.jpg", "notes.txt", "checkpoints/best.npz", "labels/last.weights.h5", "a.png")
    fill(tmp_path, *WRITTEN, *own)
    clear_folder(tmp_path, config)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == set(own)


@pytest.mark.parametrize("option", ["init", "distillation"])
def test_a_restart_keeps_the_weights_it_begins_with(tmp_path, option, monkeypatch):
    monkeypatch.chdir(tmp_path)
    claim_folder(tmp_path, small_config())
    fill(tmp_path, "best.weights.h5")
    config = small_config(**{option: {"source": "best.weights.h5"}})
    with pytest.raises(ConfigError, match=r"would remove best\.weights\.h5, which this run reads"):
        clear_folder(tmp_path, config)
    assert (tmp_path / "best.weights.h5").read_text() == "mine"
