"""The Keras runtime: one trace for every size, and the padded shape where sizes cost."""

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="needs TensorFlow")
import tensorflow as tf

from retinaface_tf import build_retinaface
from retinaface_tf.inference.preprocess import bucket_shape
from retinaface_tf.inference.runtimes.keras import KerasRuntime


@pytest.fixture(scope="module")
def model():
    return build_retinaface("mobilenet0.25")


def test_equals_the_model(model, rng):
    images = rng.integers(0, 256, (2, 75, 131, 3), dtype=np.uint8)
    outputs = KerasRuntime(model)(images)
    expected = model(images, training=False)
    probability = tf.nn.softmax(expected["class_logits"])[..., 1]
    np.testing.assert_allclose(outputs.scores, probability, atol=1e-5)
    np.testing.assert_allclose(outputs.box_deltas, expected["box_deltas"], atol=1e-4)
    np.testing.assert_allclose(outputs.landmark_deltas, expected["landmark_deltas"], atol=1e-4)


def test_no_size_is_traced_anew(model, rng, monkeypatch):
    runtime = KerasRuntime(model)
    traced = []
    monkeypatch.setattr(type(model), "call", lambda *a, **k: traced.append(1))
    for height, width in rng.integers(20, 200, (50, 2)):
        runtime(np.zeros((1, height, width, 3), np.uint8))
    assert not traced


@pytest.mark.parametrize("gpus, padded", [([], False), (["GPU:0"], True)])
def test_padding_only_where_shapes_cost(model, monkeypatch, gpus, padded):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: gpus)
    expected = bucket_shape(75, 131) if padded else (75, 131)
    assert KerasRuntime(model).input_shape(75, 131) == expected
