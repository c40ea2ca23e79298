"""Networks of the public trainings through every runtime: the same faces, on made-up weights."""

import subprocess
import sys

import numpy as np
import pytest

from retinaface_tf import RetinaFace
from retinaface_tf.models import build_retinaface
from retinaface_tf.presets import get_preset
from retinaface_tf.weights.convert.state_dict import fill_from_state_dict
from retinaface_tf.weights.hdf5 import save_weights
from tests.helpers.published_rule import image, state_dict


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["mobilenet0.5", "mobilenetv2", "resnet18"])
def test_every_runtime_finds_the_same(preset, tmp_path):
    known = get_preset(preset)
    network = build_retinaface(known.config)
    fill_from_state_dict(network, state_dict(preset), preset, known.trained_on)
    weights = save_weights(network, tmp_path / "network.weights.h5")
    found = {"keras": RetinaFace.from_file(weights, runtime="keras").detect(image(0))}
    for kind, runtime, *size in (("tflite", "litert", "--size", "160x128"), ("onnx", "onnx")):
        file = tmp_path / f"network.{kind}"
        command = [sys.executable, "-m", "retinaface_tf", "export", kind, str(file)]
        subprocess.run([*command, "--model", str(weights), *size], check=True, capture_output=True)
        found[runtime] = RetinaFace.from_file(file).detect(image(0))
    for faces in found.values():
        assert len(faces) == len(found["keras"]) > 50
        # Nearly equal scores may stand in another order.
        gaps = np.abs(faces.boxes[:, None] - found["keras"].boxes).max(-1)
        assert gaps.min(1).max() < 0.01 and gaps.min(0).max() < 0.01
        np.testing.assert_allclose(faces.scores, found["keras"].scores, atol=1e-4)
