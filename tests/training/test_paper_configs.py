"""The shipped training configurations of the papers' networks."""

import dataclasses
import re
from pathlib import Path

import keras
import numpy as np
import pytest

import retinaface_tf.training
from retinaface_tf import build_retinaface
from retinaface_tf.data.pipeline import TrainingPipeline
from retinaface_tf.data.sources import LabelledSource
from retinaface_tf.mesh.topology import load_topology
from retinaface_tf.presets import get_preset
from retinaface_tf.training.config import read_config
from retinaface_tf.training.step import DetectorTraining
from tests.helpers.meshed_faces import meshed_image

CONFIGS = Path(retinaface_tf.training.__file__).parent / "configs"
ROWS = sorted((CONFIGS / "ablation").glob("*.toml"))


@pytest.mark.parametrize("path", [*CONFIGS.glob("*.toml"), *ROWS], ids=lambda path: path.stem)
def test_every_configuration_can_be_read(path):
    read_config(path)


def test_each_ablation_row_differs_by_one_line_from_the_neighbour_it_names():
    texts = {row.stem: row.read_text().splitlines() for row in ROWS}
    changed = {}
    for name, lines in texts.items():
        neighbour = re.search(r"one line changed against ([\w-]+)", "\n".join(lines[:3]))
        if neighbour is None:
            assert name == "1-fpn-context"
            continue
        others = texts[neighbour[1]]
        assert len(lines) == len(others)
        pairs = [(a, b) for a, b in zip(others, lines) if a != b and not b.startswith("#")]
        ((_, changed[neighbour[1], name]),) = pairs
    assert changed == {
        ("1-fpn-context", "2-deformable"): "deformable = true",
        ("2-deformable", "3-landmarks"): "landmark_weight = 0.1",
        ("2-deformable", "3-pixel"): "pixel_weight = 0.01",
        ("3-landmarks", "4-landmarks-pixel"): "pixel_weight = 0.01",
        ("3-landmarks", "4-cascade"): "cascade = true",
        ("3-landmarks", "4-mesh"): "mesh_weight = 0.01",
        ("4-cascade", "5-cascade-mesh"): "mesh_weight = 0.01",
    }


@pytest.mark.slow
@pytest.mark.parametrize("path", ROWS, ids=lambda path: path.stem)
def test_each_ablation_row_does_a_step(path):
    """With a small backbone and few channels, everything else as the file says."""
    config = read_config(path, ["network.backbone=mobilenet0.25", "network.channels=8"])
    keras.utils.set_random_seed(0)
    network = build_retinaface(config.network)
    assert (network.dense_head is not None) == (config.loss.mesh_weight > 0)
    pairs = [meshed_image(number, 128) for number in range(2)]
    pipeline = TrainingPipeline(
        LabelledSource([p[1] for p in pairs], [p[0] for p in pairs]),
        config.network,
        size=128,
        batch=2,
        topology=load_topology() if config.loss.mesh_weight else None,
    )
    loss = dataclasses.replace(config.loss, pixel_size=16)
    model = DetectorTraining(network, pipeline.anchors, loss, config.optimizer, config.match)
    model.compile(optimizer=keras.optimizers.SGD(1e-4), jit_compile=False)
    logs = model.train_step(next(iter(pipeline.epoch(0))))
    expected = {"class", "box", "landmark"}
    expected |= {"first_class", "first_box"} if config.network.cascade else set()
    expected |= {"mesh"} if config.loss.mesh_weight else set()
    expected |= {"pixel"} if config.loss.pixel_weight else set()
    assert set(model.terms) == expected
    assert all(np.isfinite(float(logs[name])) for name in model.terms)
    for name in expected - {"landmark"}:
        assert float(logs[name]) > 0
    assert (float(logs["landmark"]) > 0) == (config.loss.landmark_weight > 0)


def test_ablation_has_the_papers_levels():
    for row in ROWS:
        found, wanted = read_config(row).network, get_preset("resnet152-paper").config
        for level, expected in zip(found.levels, wanted.levels, strict=True):
            assert level.stride == expected.stride
            assert level.anchor_sizes == pytest.approx(expected.anchor_sizes, abs=1e-3)
