"""One small network in every format, written once for all tests of exports and their runtimes."""

from __future__ import annotations

import numpy as np
import pytest

SIZE = (96, 160)


@pytest.fixture(scope="session")
def network():
    """The public architecture with random weights that give every output some spread."""
    import keras

    from retinaface_tf.models import build_retinaface

    keras.utils.set_random_seed(7)
    random = np.random.default_rng(7)
    network = build_retinaface("mobilenet0.25")
    for weight in network.weights:
        name, value = weight.path.rsplit("/", 1)[-1], np.asarray(weight)
        if name in ("gamma", "moving_variance"):
            value = random.uniform(0.5, 1.5, value.shape)
        elif name in ("beta", "moving_mean", "bias"):
            value = random.normal(0, 0.2, value.shape)
        elif value.shape[0] == 1 and value.shape[-1] in (4, 8, 20):
            value = random.normal(0, 0.4, value.shape)
        weight.assign(value)
    return network


@pytest.fixture(scope="session")
def images():
    """uint8 [4, 96, 160, 3]: smooth noise of several contrasts."""
    import cv2

    random = np.random.default_rng(8)
    small = random.integers(0, 256, (4, 12, 20, 3)).astype(np.uint8)
    return np.stack([cv2.resize(image, SIZE[::-1]) for image in small])


@pytest.fixture(scope="session")
def expected(network, images):
    """What Keras answers on `images`, as the runtimes give it."""
    from retinaface_tf.inference.runtimes.keras import KerasRuntime

    return KerasRuntime(network)(images)


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Folder that the files below are written to."""
    return tmp_path_factory.mktemp("exports")


@pytest.fixture(scope="session")
def tflite(network, files):
    from retinaface_tf.export.tflite import export_tflite

    return export_tflite(network, files / "float32.tflite", size=SIZE, preset="mobilenet0.25")


@pytest.fixture(scope="session")
def tflite_int8(network, images, files):
    from retinaface_tf.export.tflite import export_tflite

    return export_tflite(
        network, files / "int8.tflite", size=SIZE, precision="int8", calibration=images
    )


@pytest.fixture(scope="session")
def onnx(network, files):
    pytest.importorskip("tf2onnx")
    from retinaface_tf.export.onnx import export_onnx

    return export_onnx(network, files / "raw.onnx")
