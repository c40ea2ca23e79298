"""A trained network is trained further and keeps what it can; a run that was killed or goes on for
longer is the run it would have been."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from retinaface_tf.data.readers.fddb import read_fddb_boxes
from retinaface_tf.errors import ConfigError, TrainingDiverged
from retinaface_tf.training.command import resolve_config
from retinaface_tf.training.trainer import train
from retinaface_tf.util.process import child_environment

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def photos(data, tmp_path_factory) -> Path:
    """A folder with 20 photos to learn from and 20 held out, of one face or more."""
    folder = tmp_path_factory.mktemp("photos")
    images = read_fddb_boxes(data / "fddb/boxes_verified.txt", data / "fddb/originalPics")
    for part, chosen in (("train", images[::40][:20]), ("val", images[20::40][:20])):
        lines = []
        for image in chosen:
            lines += [str(image.path.resolve()), str(len(image.boxes))]
            for x1, y1, x2, y2 in image.boxes:
                lines.append(f"{x1:.1f} {y1:.1f} {x2 - x1:.1f} {y2 - y1:.1f} 0 0 0 0 0 0")
        (folder / f"{part}.txt").write_text("\n".join(lines))
    return folder


def tune(photos, folder, preset, *overrides, **options):
    values = {"data.kind": str(photos), "epochs": 1}
    steps = ["data.epoch_images=96", *overrides]
    return train(resolve_config(None, values, steps, finetune=preset), folder, **options)


@pytest.mark.parametrize("preset", ["lite", "mobilenet0.25"])
def test_a_few_steps_do_not_cost_average_precision(preset, photos, tmp_path, request):
    if preset != "lite":
        request.getfixturevalue("public_weights")
    result = tune(photos, tmp_path / "run", preset)
    assert result.steps >= 12 and result.before > 0.9
    assert result.after > result.before - 0.01
    assert result.best >= result.before


def test_strict_stops_a_run_that_ruins_the_network(photos, tmp_path):
    said = []
    wild = ("schedule.peak=0.01", "optimizer.ema=none", "data.epoch_images=32")
    with pytest.raises(TrainingDiverged, match=r"(fell from|ten times) .*best\.weights\.h5"):
        tune(photos, tmp_path / "strict", "lite", *wild, strict=True)
    result = tune(photos, tmp_path / "run", "lite", *wild, notify=said.append)
    assert any(line.startswith("warning: ") for line in said)
    assert result.after < result.before - 0.05 and result.best == result.before


OPTIONS = (
    *("deterministic=true", "checkpoint_steps=1", "patience=0", "data.epoch_images=16"),
    *("data.size=96", "data.batch=4", "data.validation_size=96"),
)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "faces"
    command("data", "synth", folder, "--count", "10", "--size", "96", "--quiet")
    return folder


def command(*words, **options):
    words = [sys.executable, "-m", "retinaface_tf", *map(str, words)]
    return subprocess.run(words, check=True, capture_output=True, text=True, **options)


def start(drawn, out, epochs) -> list[str]:
    words = ["train", "--config", "finetune", "--data", drawn, "--out", out, "--epochs", epochs]
    sets = [word for option in OPTIONS for word in ("--set", option)]
    return [*map(str, words), "--quiet", *sets]


def numbers(folder: Path):
    """Everything in the weights files, and the rows without times."""
    arrays = {}
    for name in ("best.weights.h5", "last.weights.h5"):
        with h5py.File(folder / name) as file:
            file.visititems(
                lambda path, item, name=name: (
                    arrays.update({f"{name}/{path}": np.array(item)})
                    if isinstance(item, h5py.Dataset)
                    else None
                )
            )
    with (folder / "metrics.csv").open() as file:
        rows = [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]
    return arrays, rows


def test_killed_resumed_and_extended_is_one_long_run(drawn, tmp_path):
    command(*start(drawn, tmp_path / "long", 8))
    out = tmp_path / "parts"
    killed = ["-m", "tests.helpers.killed_after", "6", "retinaface_tf", *start(drawn, out, 4)]
    done = subprocess.run([sys.executable, *killed], env=child_environment())
    assert done.returncode == -signal.SIGKILL
    resumed = command("train", "--resume", "--out", out, "--quiet")
    assert "going on from step " in resumed.stderr
    assert "epoch 4 of 4: loss " in (out / "train.log").read_text()
    command("train", "--resume", "--out", out, "--epochs", "8", "--quiet")
    (long, long_rows), (parts, rows) = numbers(tmp_path / "long"), numbers(out)
    assert rows == long_rows and len(rows) == 9
    assert long.keys() == parts.keys() and len(long) > 100
    for name, values in long.items():
        np.testing.assert_array_equal(parts[name], values, err_msg=name)
    lines = [line for line in (out / "train.log").read_text().splitlines() if "loss" in line]
    assert all(word in lines[-1] for word in ("class", "average precision", "images/s", "min left"))
    with pytest.raises(ConfigError, match="other settings"):
        values = {"data.kind": str(drawn), "epochs": 8}
        train(resolve_config("finetune", values, []), out)
