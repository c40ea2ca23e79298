"""The papers' whole network, deformable and in cascade, in every format; its weights are random."""

import dataclasses

import keras
import numpy as np
import pytest

from retinaface_tf import RetinaFace, build_retinaface
from retinaface_tf.config import PAPER_LEVELS, RetinaFaceConfig
from retinaface_tf.inference.runtimes.keras import KerasRuntime

SIZE = (64, 128)
# The coarsest two levels, P6 among them: more of them convert in minutes.
DEFORMABLE = RetinaFaceConfig(
    levels=PAPER_LEVELS[3:],
    channels=8,
    negative_slope=0.0,
    shared_heads=True,
    deformable=True,
    cascade=True,
)
FIVE_LEVELS = dataclasses.replace(DEFORMABLE, levels=PAPER_LEVELS, deformable=False)


def random_network(config):
    """Every output has some spread, and taps look about half a cell from their places."""
    random = np.random.default_rng(7)
    keras.utils.set_random_seed(7)
    network = build_retinaface(config)
    for weight in network.weights:
        name, value = weight.path.rsplit("/", 1)[-1], np.asarray(weight)
        if name in ("gamma", "moving_variance"):
            value = random.uniform(0.5, 1.5, value.shape)
        elif name in ("beta", "moving_mean", "bias", "offset_bias"):
            value = random.normal(0, 0.3, value.shape)
        elif name == "offset_kernel":
            value = random.normal(0, 0.1, value.shape)
        elif "head_" in weight.path:
            value = random.normal(0, 0.4, value.shape)
        weight.assign(value)
    return network


@pytest.fixture(scope="module")
def network():
    return random_network(DEFORMABLE)


@pytest.fixture(scope="module")
def five_levels():
    return random_network(FIVE_LEVELS)


@pytest.fixture(scope="module")
def images(rng_module):
    return rng_module.integers(0, 256, (2, *SIZE, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def rng_module():
    return np.random.default_rng(9)


def check_equal(runtime, network, images):
    outputs, expected = runtime(images), KerasRuntime(network)(images)
    for found, wanted in zip(outputs, expected):
        assert found.shape == wanted.shape and np.ptp(wanted) > 0.1
        np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_taps_are_displaced(network, images):
    layer = network.get_layer("p5_context_3x3_conv")
    features = keras.Model(network.input, layer.input)(images)
    offsets, _ = layer.predict_offsets(features)
    assert 0.3 < np.std(offsets) < 3


@pytest.mark.slow
def test_tflite_at_any_size(network, images, tmp_path, rng_module):
    from retinaface_tf.export.tflite import export_tflite
    from retinaface_tf.inference.runtimes.litert import LiteRTRuntime

    path = export_tflite(network, tmp_path / "all.tflite", size=SIZE)
    runtime = LiteRTRuntime(path, threads=1)
    check_equal(runtime, network, images)
    # P5 of the second has 6x4 cells, whose clamped integers a converter once took for a ReLU6.
    for shape in ((64, 64), (192, 128)):
        check_equal(runtime, network, rng_module.integers(0, 256, (1, *shape, 3)).astype(np.uint8))
    faces = RetinaFace(runtime, threshold=0.0).detect(images[0])
    assert len(faces) and np.isfinite(faces.boxes).all()


@pytest.mark.slow
@pytest.mark.parametrize("opset", [17, 19])
def test_onnx_at_any_size(network, images, opset, tmp_path, rng_module):
    pytest.importorskip("tf2onnx")
    from retinaface_tf.export.onnx import export_onnx
    from retinaface_tf.inference.runtimes.onnx import OnnxRuntime

    runtime = OnnxRuntime(export_onnx(network, tmp_path / "all.onnx", opset=opset))
    check_equal(runtime, network, images)
    check_equal(runtime, network, rng_module.integers(0, 256, (1, 75, 131, 3)).astype(np.uint8))


@pytest.mark.slow
def test_cascade_of_five_levels(five_levels, images, tmp_path):
    from retinaface_tf.export.onnx import export_onnx
    from retinaface_tf.export.tflite import export_tflite
    from retinaface_tf.inference.runtimes.litert import LiteRTRuntime
    from retinaface_tf.inference.runtimes.onnx import OnnxRuntime

    check_equal(
        LiteRTRuntime(export_tflite(five_levels, tmp_path / "x.tflite", size=SIZE)),
        five_levels,
        images,
    )
    check_equal(OnnxRuntime(export_onnx(five_levels, tmp_path / "x.onnx")), five_levels, images)
