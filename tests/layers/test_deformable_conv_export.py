"""A network with a deformable convolution in every form it is shipped in."""

import contextlib
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from retinaface_tf.layers.deformable_conv import DeformableConv2D, for_exporters

SHAPE = (1, 20, 24, 8)


@pytest.fixture(scope="module")
def network():
    """Two deformable convolutions with offsets of a few cells, sides open."""
    keras.utils.set_random_seed(3)
    image = keras.Input((None, None, 8), name="image")
    x = DeformableConv2D(8, 3, deformable_groups=2, name="first")(image)
    x = DeformableConv2D(6, 3, strides=2, groups=2, modulated=False, name="second")(x)
    model = keras.Model(image, x)
    rng = np.random.default_rng(3)
    for weight in model.weights:
        # Offsets of about a cell: larger ones would magnify rounding, not test more.
        scale = 0.06 if "offset" in weight.name else 0.3
        weight.assign(rng.normal(size=weight.shape) * scale)
    return model


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(4).normal(size=SHAPE).astype(np.float32)


@pytest.fixture(scope="module")
def expected(network, image):
    return keras.ops.convert_to_numpy(network(image))


def save(network, folder, shape):
    import tensorflow as tf

    archive = keras.export.ExportArchive()
    archive.track(network)
    archive.add_endpoint(
        "serve", network.call, input_signature=[tf.TensorSpec(shape, tf.float32, name="image")]
    )
    archive.write_out(str(folder), verbose=False)
    return str(folder)


def test_keras_file(network, image, expected, tmp_path):
    network.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(loaded(image)), expected)


@pytest.mark.parametrize("exported", [False, True])
def test_saved_model(network, image, expected, exported, tmp_path):
    import tensorflow as tf

    with for_exporters(network) if exported else contextlib.nullcontext():
        folder = save(network, tmp_path / "1", SHAPE)
    loaded = tf.saved_model.load(folder)
    np.testing.assert_allclose(loaded.serve(tf.constant(image)), expected, atol=2e-5)


# 4 rows: from 0 to 6, the clamped integers of such a map, a converter once took for a ReLU6.
@pytest.mark.parametrize("shape", [SHAPE, (1, 4, 8, 8)])
def test_tflite_with_builtin_operators_only(network, image, shape, tmp_path):
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    image = image[:, : shape[1], : shape[2]]
    with for_exporters(network):
        folder = save(network, tmp_path / "1", shape)
    # Custom and Select-TF operators are not allowed by default: conversion would fail.
    content = tf.lite.TFLiteConverter.from_saved_model(folder).convert()
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(found, keras.ops.convert_to_numpy(network(image)), atol=2e-5)


def test_onnx_as_gather(network, image, expected, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    tf2onnx = pytest.importorskip("tf2onnx")
    import tensorflow as tf

    # Any batch and size, as the detector is exported.
    signature = [tf.TensorSpec((None, None, None, 8), tf.float32, name="image")]
    with for_exporters(network):
        model, _ = tf2onnx.convert.from_function(
            tf.function(network.call, input_signature=signature), signature, opset=17
        )
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (found,) = session.run(None, {"image": image})
    np.testing.assert_allclose(found, expected, atol=2e-5)
    both = np.concatenate([image[:, :11, :9], image[:, 5:16, 5:14]])
    (found,) = session.run(None, {"image": both})
    np.testing.assert_allclose(found, keras.ops.convert_to_numpy(network(both)), atol=2e-5)


JAX_PROGRAM = """
import sys, jax, keras, numpy as np
from retinaface_tf.layers.deformable_conv import DeformableConv2D
assert keras.backend.backend() == "jax"
model = keras.models.load_model(sys.argv[1])
image = np.load(sys.argv[2])
np.save(sys.argv[3], jax.jit(lambda x: model(x))(image))
def loss(trainable):
    y, _ = model.stateless_call(trainable, [], image, training=True)
    return (y ** 2).sum()
gradients = jax.jit(jax.grad(loss))([w.value for w in model.trainable_variables])
np.savez(sys.argv[4], **{w.path: g for w, g in zip(model.trainable_variables, gradients)})
"""


@pytest.mark.slow
def test_jax_gives_the_same_outputs_and_gradients(network, image, expected, tmp_path):
    pytest.importorskip("jax")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("compares the JAX backend with TensorFlow")
    import tensorflow as tf

    network.save(tmp_path / "model.keras")
    np.save(tmp_path / "image.npy", image)
    names = ("model.keras", "image.npy", "found.npy", "gradients.npz")
    subprocess.run(
        [sys.executable, "-c", JAX_PROGRAM, *(str(tmp_path / name) for name in names)],
        env={**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
    )
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), expected, atol=2e-5)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(network(image, training=True) ** 2)
    own = tape.gradient(loss, [w.value for w in network.trainable_variables])
    with np.load(tmp_path / "gradients.npz") as found:
        for weight, gradient in zip(network.trainable_variables, own):
            scale = float(np.abs(gradient).max())
            np.testing.assert_allclose(found[weight.path], gradient, atol=1e-4 * scale)
