"""Networks of separable units in every format; weights are random."""

import keras
import numpy as np
import pytest

from retinaface_tf import build_retinaface
from retinaface_tf.inference.runtimes.keras import KerasRuntime


@pytest.fixture(scope="module")
def lite():
    """Every output has some spread."""
    keras.utils.set_random_seed(7)
    random = np.random.default_rng(7)
    network = build_retinaface("lite")
    for layer in network.layers:
        if layer.name.endswith("_bn"):
            count = len(layer.get_weights()[0])
            ranges = ((0.5, 1.5), (-0.3, 0.3), (-0.3, 0.3), (0.5, 1.5))
            layer.set_weights([random.uniform(a, b, count) for a, b in ranges])
        elif layer.name.endswith("_spread"):
            layer.set_weights([random.normal(0, 0.4, w.shape) for w in layer.get_weights()])
        elif layer.name == "stem_conv":
            layer.set_weights([w / 60 for w in layer.get_weights()])
    return network


def check_equal(runtime, network, images, tolerance=1e-4):
    for found, wanted in zip(runtime(images), KerasRuntime(network)(images)):
        assert found.shape == wanted.shape and np.ptp(wanted) > 0.1
        np.testing.assert_allclose(found, wanted, atol=tolerance * max(1, np.abs(wanted).max()))


def test_tflite_at_any_size(lite, images, tmp_path, rng):
    from retinaface_tf.export.tflite import export_tflite
    from retinaface_tf.inference.runtimes.litert import LiteRTRuntime

    runtime = LiteRTRuntime(
        export_tflite(lite, tmp_path / "lite.tflite", size=images.shape[1:3]), threads=1
    )
    check_equal(runtime, lite, images)
    check_equal(runtime, lite, rng.integers(0, 256, (1, 192, 64, 3)).astype(np.uint8))


@pytest.mark.slow
def test_int8_stays_near(lite, images, tmp_path):
    from retinaface_tf.export.tflite import export_tflite
    from retinaface_tf.inference.runtimes.litert import LiteRTRuntime

    path = tmp_path / "lite8.tflite"
    export_tflite(lite, path, size=images.shape[1:3], precision="int8", calibration=images)
    check_equal(LiteRTRuntime(path, threads=1), lite, images, tolerance=0.1)


def test_onnx_at_any_size(lite, images, tmp_path, rng):
    pytest.importorskip("tf2onnx")
    from retinaface_tf.export.onnx import export_onnx
    from retinaface_tf.inference.runtimes.onnx import OnnxRuntime

    runtime = OnnxRuntime(export_onnx(lite, tmp_path / "lite.onnx"))
    check_equal(runtime, lite, images)
    check_equal(runtime, lite, rng.integers(0, 256, (1, 75, 131, 3)).astype(np.uint8))


def test_equalisation_keeps_the_function(lite, images):
    from retinaface_tf.export.equalize import equalize

    level = equalize(lite, images)
    check_equal(KerasRuntime(level), lite, images, tolerance=2e-4)

    # Nothing stands between a unit's two convolutions: each channel gets all of the range.
    def spread(network):
        part = keras.Model(network.input, network.get_layer("block3_1_pointwise").output)
        ranges = np.abs(np.asarray(part(images.astype(np.float32)))).max(axis=(0, 1, 2))
        return ranges.max() / ranges.min()

    assert spread(lite) > 1.5 and spread(level) < 1.01
