"""Networks of published programs: converted, they answer what the original code answered.

The answers were written by `benchmarks/published_code.py`, which runs that code on made-up weights.
"""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from retinaface_tf.config import BGR, RGB_TORCHVISION
from retinaface_tf.errors import WeightsError
from retinaface_tf.models.cost import network_cost
from retinaface_tf.presets import get_preset, list_presets
from retinaface_tf.util.files import sha256_of
from retinaface_tf.weights.convert.convert import convert_weights
from tests.helpers import published_rule
from tests.helpers.torch_writer import archive_file, tensors_of

FOLDER = published_rule.FOLDER
NAMES = sorted(path.stem for path in FOLDER.glob("*.npz"))
QUICK = ("mobilenet0.25.biubug6", "mobilenet0.5", "mobilenetv2")


@pytest.mark.parametrize(
    "preset",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NAMES],
)
def test_a_converted_network_answers_as_the_original_code(preset, tmp_path):
    known = get_preset(preset)
    path = tmp_path / "network.pth"
    path.write_bytes(archive_file(*tensors_of(published_rule.state_dict(preset))))
    network = convert_weights(path, known.config, known.trained_on)
    kept = np.load(FOLDER / f"{preset}.npz")
    for number in range(len(published_rule.SIZES)):
        outputs = network(published_rule.image(number)[None], training=False)
        ours = {name: np.asarray(value)[0] for name, value in outputs.items()}
        background, face = ours.pop("class_logits").T
        ours["scores"] = 1 / (1 + np.exp(background - face))
        places = published_rule.places(len(ours["scores"]), preset, number)
        for kind in ("box_deltas", "scores", "landmark_deltas"):
            expected = kept[f"{kind}_{number}"]
            assert np.abs(expected).max() > 0.05
            np.testing.assert_allclose(ours[kind][places], expected, atol=1e-4, rtol=0)


def test_every_public_training_is_held_to_its_code():
    downloaded = {n for n in list_presets() if type(get_preset(n).source).__name__ == "UrlSource"}
    assert {get_preset(name).name for name in NAMES} >= downloaded


def trained(preset: str, deviation: float) -> dict[str, np.ndarray]:
    """A state dict whose first batch norm saw images of that deviation."""
    tensors = published_rule.state_dict(preset)
    stem = next(name for name, value in tensors.items() if value.ndim == 4)
    squares = np.square(tensors[stem]).sum((1, 2, 3))
    norm = next(name for name in tensors if name.endswith("running_var"))
    counter = norm.replace("running_var", "num_batches_tracked")
    return tensors | {norm: np.float32(3 * deviation**2 * squares), counter: np.array(1000)}


def written(path: Path, preset: str, deviation: float) -> Path:
    path.write_bytes(archive_file(*tensors_of(trained(preset, deviation))))
    return path


@pytest.mark.parametrize(
    ("preset", "divided_preset"),
    [
        ("mobilenet0.25", None),
        pytest.param("resnet50", "resnet50.ternaus", marks=pytest.mark.slow),
    ],
)
def test_images_of_another_scale_are_noticed(preset, divided_preset, tmp_path):
    known = get_preset(preset)
    fixture = preset if preset in NAMES else f"{preset}.biubug6"
    raw = written(tmp_path / "raw.pth", fixture, 60.0)
    divided = written(tmp_path / "divided.pth", fixture, 1.0)
    convert_weights(raw, known.config, BGR)
    convert_weights(divided, known.config, RGB_TORCHVISION)
    belongs = (
        f"--preset {divided_preset} is" if divided_preset else "in Python, by `convert_weights"
    )
    with pytest.raises(WeightsError, match=f"divided by their deviation, as.*{belongs}"):
        convert_weights(divided, known.config, BGR)
    with pytest.raises(WeightsError, match=rf"images 0\.\.255, as.*--preset {preset} is of such"):
        convert_weights(raw, known.config, RGB_TORCHVISION)


def test_a_divided_file_of_another_network_is_told_its_network(tmp_path):
    divided = written(tmp_path / "divided.pth", "mobilenetv2", 1.0)
    with pytest.raises(WeightsError, match="try --preset mobilenetv2"):
        convert_weights(divided, get_preset("mobilenet0.25").config, BGR)


def test_two_programs_names_in_one_file_are_refused(tmp_path):
    tensors = published_rule.state_dict("mobilenet0.25.biubug6")
    tensors["fx.stage1.0.0.weight"] = tensors["body.stage1.0.0.weight"]
    path = tmp_path / "both.pth"
    path.write_bytes(archive_file(*tensors_of(tensors)))
    with pytest.raises(WeightsError, match=r"holds body\.stage1\.0\.0\.weight twice"):
        convert_weights(path, get_preset("mobilenet0.25").config)


def test_a_file_packed_once_more_is_read(tmp_path):
    inner = archive_file(*tensors_of(published_rule.state_dict("mobilenet0.25.biubug6")))
    paths = [tmp_path / "plain.pth", tmp_path / "packed.zip"]
    paths[0].write_bytes(inner)
    with zipfile.ZipFile(paths[1], "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("retinaface.pth", inner)
    config = get_preset("mobilenet0.25").config
    a, b = (convert_weights(path, config).get_weights() for path in paths)
    assert all(np.array_equal(x, y) for x, y in zip(a, b))


@pytest.mark.parametrize("name", ["lite", "mobilenet0.5", "mobilenetv2", "resnet18"])
def test_the_cost_of_a_preset_is_the_networks(name):
    known = get_preset(name)
    costs = network_cost(known.config, 640, 640).values()
    assert known.parameters == round(sum(cost.parameters for cost in costs) / 1e6, 3)
    assert known.gmac == round(sum(cost.flops for cost in costs) / 2e9, 2)


def test_the_file_at_hand_is_the_published_one(data):
    path = data / "weights/hukkelas_DSFD-Pytorch-Inference/RetinaFace_mobilenet025.pth"
    source = get_preset("mobilenet0.25.biubug6").source
    assert path.stat().st_size == source.size and sha256_of(path) == source.digest
