"""Files that are cut off, changed, or not ours: a clear error, and the process lives."""

import numpy as np
import pytest

from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.errors import WeightsError
from retinaface_tf.inference.runtimes.open import open_runtime
from retinaface_tf.modelfile.metadata import (
    ModelMetadata,
    Suppression,
    append_checksum,
    open_checked,
)


def test_the_note_survives_the_round_trip():
    metadata = ModelMetadata(
        config=RetinaFaceConfig(channels=32, pixel_mean=(1, 2, 3)),
        precision="int8",
        input_size=(90, 120),
        input_dtype="uint8",
        resizable=False,
        suppression=Suppression(threshold=0.3, iou=0.2, max_faces=7),
        preset="mine",
    )
    content = append_checksum(b"head" + metadata.to_json().encode() + b"tail")
    assert open_checked(content, "x") == metadata


@pytest.mark.parametrize("kind", ["tflite", "onnx"])
def test_no_damage_reaches_the_parser(kind, request, tmp_path, rng):
    content = request.getfixturevalue(kind).read_bytes()
    path = tmp_path / f"damaged.{kind}"
    for number in range(200):
        data = bytearray(content)
        way = number % 4
        at = int(rng.integers(len(data)))
        if way == 0:
            data = data[:at]
        elif way == 1:
            data[at] ^= 1 << int(rng.integers(8))
        elif way == 2:
            data[at : at + 64] = rng.bytes(64)
        else:
            del data[at : at + int(rng.integers(1, 5000))]
        path.write_bytes(data)
        with pytest.raises(WeightsError, match=r"damaged\.(tflite|onnx)"):
            open_runtime(path)


@pytest.mark.parametrize("kind", ["tflite", "onnx"])
def test_what_is_not_ours_is_refused(kind, tmp_path, rng):
    path = tmp_path / f"foreign.{kind}"
    with pytest.raises(WeightsError, match="no file"):
        open_runtime(path)
    for content in (b"", b"TFL3", b"\x1c\0\0\0TFL3" + rng.bytes(5000), b"hello" * 100):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match="foreign"):
            open_runtime(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(WeightsError, match="Cannot read"):
        open_runtime(path)


def test_a_file_of_the_other_format_is_refused(tflite, tmp_path):
    """Sealed and whole, but the parser that its name asks for does not know it."""
    path = tmp_path / "x.onnx"
    path.write_bytes(tflite.read_bytes())
    with pytest.raises(WeightsError, match="onnx"):
        open_runtime(path)


def test_a_future_format_says_so():
    text = ModelMetadata(config=RetinaFaceConfig()).to_json().replace('"format": 1', '"format": 9')
    with pytest.raises(WeightsError, match="upgrade"):
        open_checked(append_checksum(text.encode()), "x")


def test_a_network_that_was_removed_is_named():
    text = ModelMetadata(config=RetinaFaceConfig()).to_json().replace("mobilenet0.25", "yunet-slim")
    with pytest.raises(WeightsError, match=r"'yunet-slim'.*; use the version .* that wrote it"):
        open_checked(append_checksum(text.encode()), "x")


def test_a_name_that_stands_twice_is_no_seal():
    text = ModelMetadata(config=RetinaFaceConfig()).to_json().encode()
    with pytest.raises(ValueError):
        append_checksum(text + text)
    assert np.all(
        np.frombuffer(append_checksum(text), np.uint8)[:10] == np.frombuffer(text[:10], np.uint8)
    )
