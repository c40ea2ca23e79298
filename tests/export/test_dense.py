"""A network with a dense branch gives the same vertices wherever it runs."""

from __future__ import annotations

import numpy as np
import pytest

from retinaface_tf import RetinaFace
from retinaface_tf.config import DenseConfig
from retinaface_tf.export.tflite import export_tflite
from retinaface_tf.modelfile.metadata import Suppression
from retinaface_tf.models import add_dense_branch

SIZE = (96, 160)


@pytest.fixture(scope="module")
def dense_network(network):
    """The small network of the other exports, with a dense head of few vertices."""
    dense = DenseConfig(vertices=68, frame="face", grid=3, finer=1, reduced=4, hidden=(8,), rank=5)
    extended = add_dense_branch(network, dense)
    rng = np.random.default_rng(3)
    for weight in extended.dense_head.weights:
        weight.assign(rng.normal(0, 0.3, weight.shape))
    return extended


@pytest.fixture(scope="module")
def image(images):
    return images[0]


THRESHOLD = 0.88
SETTINGS = {"threshold": THRESHOLD, "iou": 0.3, "large_faces": False, "max_faces": 30}


@pytest.fixture(scope="module")
def expected(dense_network, image):
    from retinaface_tf.inference.runtimes.keras import KerasRuntime

    faces = RetinaFace(KerasRuntime(dense_network), **SETTINGS).detect(image)
    assert 2 <= len(faces) <= 30 and faces.vertices.shape == (len(faces), 68, 3)
    assert np.ptp(faces.vertices) > 1
    return faces


def assert_same(vertices, expected, tolerance=0.02):
    np.testing.assert_allclose(vertices, expected.vertices, atol=tolerance)


@pytest.mark.parametrize("suffix", [".tflite", pytest.param(".onnx", marks=pytest.mark.slow)])
def test_raw_heads_with_the_head_in_the_file(dense_network, suffix, image, expected, tmp_path):
    path = tmp_path / f"dense{suffix}"
    if suffix == ".onnx":
        pytest.importorskip("tf2onnx")
        from retinaface_tf.export.onnx import export_onnx

        export_onnx(dense_network, path)
    else:
        export_tflite(dense_network, path, size=(128, 128))
    faces = RetinaFace.from_file(path, **SETTINGS).detect(image)
    np.testing.assert_allclose(faces.boxes, expected.boxes, atol=1e-2)
    assert_same(faces.vertices, expected)


def test_tflite_that_ends_in_faces(dense_network, image, expected, tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    path = export_tflite(
        dense_network,
        tmp_path / "faces.tflite",
        size=SIZE,
        suppression=Suppression(threshold=THRESHOLD, iou=0.3, max_faces=30),
    )
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    (details,) = interpreter.get_input_details()
    interpreter.set_tensor(details["index"], image[None].astype(np.float32))
    interpreter.invoke()
    outputs = {
        d["name"]: interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()
    }
    count = int(outputs["num_faces"][0])
    assert count == len(expected)
    assert_same(outputs["vertices"][0, :count], expected)
    assert not outputs["vertices"][0, count:].any()


def test_onnx_that_ends_in_faces(dense_network, image, expected, tmp_path):
    pytest.importorskip("tf2onnx")
    import onnxruntime

    from retinaface_tf.export.onnx import export_onnx

    path = export_onnx(
        dense_network,
        tmp_path / "faces.onnx",
        suppression=Suppression(threshold=THRESHOLD, iou=0.3, max_faces=30),
    )
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    both = np.stack([image, image[:, ::-1]]).astype(np.float32)
    names = ["vertices", "num_faces"]
    vertices, count = session.run(names, {"image": both})
    assert count[0] == len(expected) and vertices.shape == (2, 30, 68, 3)
    assert_same(vertices[0, : count[0]], expected)
    assert not vertices[0, count[0] :].any()
    empty, count = session.run(names, {"image": np.full((1, 64, 64, 3), 117, np.float32)})
    assert not empty[0, count[0] :].any()


@pytest.mark.parametrize("size", [None, pytest.param(SIZE, marks=pytest.mark.slow)])
def test_savedmodel(dense_network, image, expected, tmp_path, size):
    import tensorflow as tf

    from retinaface_tf.export.savedmodel import SavedModelOptions, export_savedmodel

    options = SavedModelOptions(size=size, threshold=THRESHOLD, iou=0.3, max_faces=30)
    folder = export_savedmodel(dense_network, tmp_path / "model", options)
    served = tf.saved_model.load(str(folder)).signatures["image_tensor"]
    outputs = {k: v.numpy() for k, v in served(images=tf.constant(image[None])).items()}
    count = int(outputs["num_faces"][0])
    assert count == len(expected)
    assert_same(outputs["vertices"][0, :count], expected)
    assert not outputs["vertices"][0, count:].any()


def test_the_detector_answers_as_before_the_branch_was_added(network, dense_network, image):
    """Boxes, scores and points to the last bit: the branch only reads feature maps."""
    from retinaface_tf.inference.runtimes.keras import KerasRuntime

    one, other = (
        RetinaFace(KerasRuntime(n), **SETTINGS).detect(image) for n in (network, dense_network)
    )
    assert one.vertices is None and other.vertices is not None and len(one)
    for name in ("boxes", "scores", "landmarks"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_an_image_without_faces_has_no_meshes(dense_network):
    from retinaface_tf.inference.runtimes.keras import KerasRuntime

    faces = RetinaFace(KerasRuntime(dense_network), threshold=1.0).detect(
        np.zeros((64, 64, 3), np.uint8)
    )
    assert len(faces) == 0 and faces.vertices.shape == (0, 68, 3)
