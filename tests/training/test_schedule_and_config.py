"""The learning rate against its formula; configuration files, overrides and their mistakes."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from retinaface_tf.errors import ConfigError
from retinaface_tf.training.config import TrainingConfig, apply_overrides, read_config
from retinaface_tf.training.schedule import DetectorSchedule, ScheduleConfig

CONFIGS = Path(__file__).resolve().parents[2] / "retinaface_tf" / "training" / "configs"


def test_the_papers_schedule():
    """1e-3 rises to 1e-2 over 5 epochs, a tenth at 55 and 68, end at 80."""
    rate = DetectorSchedule(ScheduleConfig(), 100, 80)
    for step, wanted in [
        (0, 1e-3),
        (250, 5.5e-3),
        (500, 1e-2),
        (5499, 1e-2),
        (5500, 1e-3),
        (6799, 1e-3),
        (6800, 1e-4),
        (7999, 1e-4),
    ]:
        np.testing.assert_allclose(float(rate(step)), wanted, rtol=1e-5)


def test_cosine():
    config = ScheduleConfig(kind="cosine", peak=0.4, final=0.1, warmup_epochs=2)
    rate = DetectorSchedule(config, 10, 12)
    for step in range(20, 121, 7):
        wanted = 0.1 + 0.3 * 0.5 * (1 + math.cos(math.pi * (step - 20) / 100))
        np.testing.assert_allclose(float(rate(step)), wanted, rtol=1e-4)
    again = DetectorSchedule.from_config(rate.get_config())
    assert float(again(33)) == float(rate(33))


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda p: p.stem)
def test_shipped_configurations_are_valid(path):
    config = read_config(path)
    assert TrainingConfig.from_dict(config.to_dict()) == config
    assert TrainingConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_overrides():
    values = apply_overrides(
        {"data": {"batch": 4}},
        [
            "data.batch=8",
            "augment.crop_scale=[0.3, 2]",
            "init.source=a/b.pth",
            "optimizer.ema=none",
        ],
    )
    config = TrainingConfig.from_dict(values)
    assert (config.data.batch, config.augment.crop_scale) == (8, (0.3, 2.0))
    assert (config.init.source, config.optimizer.ema) == ("a/b.pth", None)


@pytest.mark.parametrize(
    "override, place",
    [
        ("data.bach=8", "bach"),
        ("data.batch=many", r"data\.batch"),
        ("loss.box=giou", "giou"),
        ("precision=float8", "float8"),
        ("network=resnet1", "resnet1"),
        ("data", "key=value"),
        ("match.positive_threshold=0.2", "match"),
    ],
)
def test_mistakes_are_named(override, place):
    with pytest.raises(ConfigError, match=place):
        TrainingConfig.from_dict(apply_overrides({}, [override]))
