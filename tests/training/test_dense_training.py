"""Whole runs with the dense terms: they learn, go on to the last bit, and leave a network with meshes."""

from __future__ import annotations

import csv
import shutil

import numpy as np
import pytest

from retinaface_tf.config import DenseConfig
from retinaface_tf.errors import ConfigError
from retinaface_tf.inference.detector import RetinaFace
from retinaface_tf.training.trainer import train
from tests.helpers.meshed_faces import write_mesh_labels
from tests.helpers.small_run import VALUES, small_config


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    return write_mesh_labels(tmp_path_factory.mktemp("photos"), 12)


def config(labels, **loss):
    loss = {"mesh_weight": 0.01, "mesh_positives": 4, **loss}
    data = {**VALUES["data"], "kind": "mesh-labels", "root": str(labels)}
    return small_config(data=data, loss=loss)


def newest(folder) -> dict[str, np.ndarray]:
    path = sorted((folder / "checkpoints").glob("*.npz"))[-1]
    with np.load(path) as file:
        return {name: file[name] for name in file.files if name != "state"}


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_last_bit(labels, tmp_path):
    """Both terms; the reconstruction head is in the checkpoint and not in the network's file."""
    both = config(labels, pixel_weight=0.01, pixel_size=16, pixel_positives=1)
    train(both, tmp_path / "whole")

    # As if it had been stopped within its last epoch.
    shutil.copytree(tmp_path / "whole", tmp_path / "stopped")
    (tmp_path / "stopped" / "checkpoints" / "step-000000006.npz").unlink()
    steps = []
    train(both, tmp_path / "stopped", on_step=lambda step, logs: steps.append(step))
    assert steps == [6]
    first, second = newest(tmp_path / "whole"), newest(tmp_path / "stopped")
    assert first.keys() == second.keys()
    assert any("reconstruction_head" in name for name in first)
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
    with (tmp_path / "whole" / "metrics.csv").open() as file:
        last = list(csv.DictReader(file))[-1]
    assert float(last["mesh"]) > 0 and float(last["pixel"]) > 0

    detector = RetinaFace.from_file(tmp_path / "whole" / "last.weights.h5", runtime="keras")
    assert detector.runtime.config.dense == DenseConfig()
    faces = detector.detect(np.zeros((96, 96, 3), np.uint8), threshold=0.0)
    assert len(faces) and faces.vertices.shape == (len(faces), 1103, 3)


def test_a_mesh_loss_without_meshes_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"data\.meshes"):
        train(small_config(loss={"mesh_weight": 0.01}), tmp_path / "run")
