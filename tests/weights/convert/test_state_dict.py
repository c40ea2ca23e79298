"""State dicts in the public layout: the converted network is the same function, or an error."""

import numpy as np
import pytest

from retinaface_tf.errors import WeightsError
from retinaface_tf.presets import get_preset
from retinaface_tf.weights.convert.convert import convert_weights
from retinaface_tf.weights.convert.torch_pickle import read_torch_file
from tests.helpers.public_network import Arithmetic, KnownTensors, RandomTensors, forward
from tests.helpers.torch_writer import CONTAINERS, tensors_of

QUARTER = get_preset("mobilenet0.25").config
CHECKPOINTS = (
    "m2man_Pytorch_Retinaface/mobilenet0.25_Final.pth",
    "m2man_Pytorch_Retinaface/mobilenet0.25_epoch_245.pth",
    "m2man_Pytorch_Retinaface/mobilenet0.25_size_320.pth",
    "cunjian_pytorch_face_landmark/mobilenet0.25_Final.pth",
    "biubug6_Face-Detector-1MB-with-landmark/mobilenet0.25_Final.pth",
    "sglee487_Pytorch_Retinaface/mobilenet0.25_Final.pth",
    "hukkelas_DSFD-Pytorch-Inference/RetinaFace_mobilenet025.pth",
)


def _image(rng, height=65, width=131):
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def _same_function(network, tensors, image):
    """Against float64; the tolerance is float32's, relative to the largest output of the kind."""
    expected = forward(Arithmetic(tensors), image, network.config.backbone)
    outputs = network(image[None], training=False)
    for name, value in expected.items():
        error = np.abs(np.asarray(outputs[name])[0] - value).max()
        assert error <= 1e-5 * max(1, np.abs(value).max()), name


def _state_dict(backbone, rng):
    tensors = RandomTensors(rng)
    forward(Arithmetic(tensors), _image(rng, 32, 32), backbone)
    return tensors


def _file(folder, tensors, container="archive"):
    path = folder / "weights.pth"
    path.write_bytes(CONTAINERS[container](*tensors_of(dict(tensors))))
    return path


@pytest.fixture(scope="module")
def quarter():
    """A state dict of the smallest network; tests copy before they change it."""
    return _state_dict("mobilenet0.25", np.random.default_rng(5))


@pytest.mark.parametrize("backbone", ["mobilenet0.5", "mobilenet0.25", "mobilenet1.0"])
def test_a_mobilenet_state_dict_becomes_the_same_function(tmp_path, rng, backbone):
    tensors = _state_dict(backbone, rng)
    counted = {**tensors, "body.stage1.0.1.num_batches_tracked": np.array(0)}
    network = convert_weights(_file(tmp_path, counted), get_preset(backbone).config)
    _same_function(network, tensors, _image(rng))


def test_a_resnet50_state_dict_becomes_the_same_function(tmp_path, rng):
    tensors = _state_dict("resnet50", rng)
    config = get_preset("resnet50").config
    networks = [
        convert_weights(_file(tmp_path, tensors, container), config) for container in CONTAINERS
    ]
    _same_function(networks[0], tensors, _image(rng))
    for first, second in zip(networks[0].get_weights(), networks[1].get_weights()):
        np.testing.assert_array_equal(first, second)


def test_missing_and_left_over_and_misshapen_tensors_are_named(tmp_path, quarter):
    broken = dict(quarter)
    del broken["ssh2.conv7x7_3.1.running_var"]
    broken["body.fc.weight"] = np.ones((10, 256), np.float32)
    broken["ClassHead.1.conv1x1.bias"] = np.ones(6, np.float32)
    with pytest.raises(WeightsError) as caught:
        convert_weights(_file(tmp_path, broken), QUARTER)
    message = str(caught.value)
    assert "weights.pth does not fit a mobilenet0.25 network" in message
    assert "1 tensors are missing (ssh2.conv7x7_3.1.running_var)" in message
    assert "1 tensors have no place (body.fc.weight)" in message
    assert "1 tensors have another shape (ClassHead.1.conv1x1.bias (6,))" in message


@pytest.mark.parametrize("preset", ["mobilenet0.5", "resnet50"])
def test_a_wrong_preset_is_told_which_to_try(tmp_path, quarter, preset):
    path = _file(tmp_path, quarter)
    with pytest.raises(WeightsError, match=r"looks like mobilenet0\.25, so try --preset"):
        convert_weights(path, get_preset(preset).config)


def test_numbers_that_are_not_finite_are_refused(tmp_path, quarter):
    broken = {**quarter, "fpn.merge1.0.weight": np.full((64, 64, 3, 3), np.nan, np.float32)}
    with pytest.raises(WeightsError, match=r"fpn\.merge1\.0\.weight"):
        convert_weights(_file(tmp_path, broken), QUARTER)


@pytest.mark.parametrize("preset", ["yunet", "lite"])
def test_other_backbones_are_not_in_the_public_layout(tmp_path, quarter, preset):
    with pytest.raises(WeightsError, match="no network with the backbone yunet; it has mobilenet"):
        convert_weights(_file(tmp_path, quarter), get_preset(preset).config)


def test_shared_heads_are_not_in_the_public_layout(tmp_path, quarter):
    import dataclasses

    config = dataclasses.replace(QUARTER, shared_heads=True)
    with pytest.raises(WeightsError, match="shared"):
        convert_weights(_file(tmp_path, quarter), config)


@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
def test_each_public_checkpoint_converts_and_sees_the_face(data, astronaut, rng, checkpoint):
    path = data / "weights" / checkpoint
    network = convert_weights(path, QUARTER)
    _same_function(network, KnownTensors(read_torch_file(path)), astronaut[:200, 100:331])
    outputs = network(astronaut[None], training=False)
    assert all(np.isfinite(np.asarray(value)).all() for value in outputs.values())
    logits = np.asarray(outputs["class_logits"], np.float64)[0]
    score = 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))
    assert score.max() > 0.99
    assert (score > 0.5).mean() < 0.01
