"""The learning rate against its formula; configuration files, overrides and their mistakes."""

import json
import math
import subprocess
import sys
import typing
from dataclasses import is_dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from retinaface_tf.errors import ConfigError
from retinaface_tf.losses.config import DistillationConfig
from retinaface_tf.presets import get_preset
from retinaface_tf.training.command import find_config, resolve_config
from retinaface_tf.training.config import ScheduleConfig, TrainingConfig, read_config
from retinaface_tf.training.schedule import DetectorSchedule
from retinaface_tf.util.options import apply_overrides, set_option

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
        ("loss.box_weight=-1", r"^loss\.box_weight=-1\.0 must be at least 0\.$"),
        ("loss.box_weight=much", r"^loss\.box_weight='much' must be a number\.$"),
        ("distillation.scales=[3]", r"distillation\.scales=\(3\.0,\) must be within 0\.25\.\.2"),
    ],
)
def test_mistakes_are_named(override, place):
    with pytest.raises(ConfigError, match=place):
        TrainingConfig.from_dict(apply_overrides({}, [override]))


def test_reading_a_configuration_loads_no_framework():
    program = """
import sys
from retinaface_tf.training.config import read_config
from retinaface_tf.training.command import find_config
read_config(find_config("lite"), ["data.batch=2"])
print({"tensorflow", "keras", "cv2", "jax"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout.strip(), done.returncode) == ("set()", 0), done.stderr


def test_distillation_is_still_read_under_its_old_name(tmp_path):
    path = tmp_path / "old.toml"
    path.write_text('[imitation]\nsource = "a.h5"\nscales = [1]\n')
    config = read_config(path, ["imitation.mirrored=[2]"])
    wanted = DistillationConfig(source="a.h5", scales=(1.0,), mirrored=(2.0,))
    assert config.distillation == wanted
    assert read_config(find_config("lite"), ["imitation.source=b.h5"]).distillation == replace(
        read_config(find_config("lite")).distillation, source="b.h5"
    )
    with pytest.raises(ConfigError, match=r"distillation\.scale'"):
        read_config(path, ["imitation.scale=1"])


def test_an_option_of_a_preset_changes_only_that():
    """`network` is a preset's name in the file, and one of its options is given beside it."""
    config = read_config(find_config("lite"), ["network.negative_slope=0.2"])
    assert config.network == replace(get_preset("lite").config, negative_slope=0.2)


def test_the_kind_of_data_chooses_the_configuration():
    """What is given beside it wins over the file, and overrides over all."""
    options = {"data.kind": "fddb", "data.root": "photos", "epochs": 3, "data.batch": None}
    found, file = (
        resolve_config(None, options, ["epochs=4"]),
        read_config(find_config("fddb_finetune")),
    )
    data = replace(file.data, root="photos")
    assert found == replace(file, epochs=4, data=data) and file.epochs != 4
    for kind, name in ((None, "synthetic"), ("coco", "wider_mobilenet025")):
        found = resolve_config(None, {"data.kind": kind}, [])
        file = read_config(find_config(name))
        assert found == replace(file, data=replace(file.data, kind=kind or "synthetic"))


def numbers(options, prefix=""):
    """Dotted names of all members that are numbers, lists of numbers or perhaps numbers."""
    for name, hint in typing.get_type_hints(type(options)).items():
        value = getattr(options, name)
        kinds = {hint, *typing.get_args(hint)}
        if is_dataclass(value):
            yield from numbers(value, f"{prefix}{name}.")
        elif {int, float} & kinds and bool not in kinds:
            yield prefix + name, isinstance(value, tuple), str in kinds


@pytest.mark.parametrize("name, several, text", numbers(TrainingConfig()))
@pytest.mark.parametrize("value", [-1, -1e300, "x", True, [[1]], {"a": 1}, float("nan")])
def test_no_number_takes_what_cannot_be(name, several, text, value):
    """Negative numbers, other types: one sentence that names the option, whichever it is."""
    if text and not isinstance(value, bool | list | dict | float):
        pytest.skip("a category may be any text or number")
    values: dict = {}
    set_option(values, name, [value, value] if several and not isinstance(value, list) else value)
    with pytest.raises(ConfigError) as caught:
        TrainingConfig.from_dict(values)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)
