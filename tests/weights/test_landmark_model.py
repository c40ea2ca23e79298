"""The landmark model: taken out of a wheel that is never installed, once, with its licence."""

import hashlib

import pytest

from retinaface_tf.errors import WeightsError
from retinaface_tf.util import cache
from retinaface_tf.weights import landmark_model
from tests.helpers.wheels import use_index, write_wheel

MODEL = b"stands for a .tflite file"


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    (tmp_path / "index").mkdir()
    members = {landmark_model.MEMBER: MODEL, "mediapipe/__init__.py": b"raise SystemExit"}
    path = write_wheel(tmp_path / "index", "mediapipe", members)
    use_index(monkeypatch, path.parent)
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "cache"))
    digests = {"WHEEL_SHA256": path.read_bytes(), "MODEL_SHA256": MODEL}
    for name, content in digests.items():
        monkeypatch.setattr(landmark_model, name, hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(landmark_model, "VERSION", "1.0")
    return path


def test_it_is_fetched_once(wheel, monkeypatch):
    said = []
    path = landmark_model.pull_landmark_model(notify=said.append)
    assert path == landmark_model.landmark_model_path() and path.read_bytes() == MODEL
    assert "Permission is granted." in path.with_suffix(".LICENSE.txt").read_text()
    assert any("Apache-2.0" in line for line in said)
    wheel.unlink()
    assert landmark_model.pull_landmark_model() == path
    with pytest.raises(WeightsError, match="The face landmark model is not cached and pip"):
        landmark_model.pull_landmark_model(force=True)
    assert path.read_bytes() == MODEL


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("WHEEL_SHA256", "0" * 64, "sha256 of the wheel mediapipe-1.0"),
        ("MODEL_SHA256", "0" * 64, r"sha256 of .*face_landmark\.tflite in mediapipe-1.0"),
        ("MEMBER", "elsewhere.tflite", r"holds no elsewhere\.tflite"),
    ],
)
def test_other_bytes_are_not_used(wheel, monkeypatch, name, value, message):
    monkeypatch.setattr(landmark_model, name, value)
    with pytest.raises(WeightsError, match=message):
        landmark_model.pull_landmark_model()
    assert not list(cache.cache_folder().glob("*.tflite"))
