"""TFLite files: equal to Keras, self-describing, wholly delegated, at any size."""

import detect_photo
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

from retinaface_tf import RetinaFace
from retinaface_tf.errors import ConfigError, ImageError, WeightsError
from retinaface_tf.export.tflite import export_tflite
from retinaface_tf.inference.runtimes.keras import KerasRuntime
from retinaface_tf.inference.runtimes.litert import LiteRTRuntime
from retinaface_tf.modelfile.metadata import Suppression, read_checked


def largest_difference(outputs, expected):
    assert all(np.isfinite(values).all() for values in outputs)
    assert all(a.shape == b.shape for a, b in zip(outputs, expected))
    return max(float(np.abs(a - b).max()) for a, b in zip(outputs, expected))


def assert_near(outputs, expected, share):
    """Each output's error, as root mean square, is under a share of the output's own spread."""
    for name, got, want in zip(expected._fields, outputs, expected, strict=True):
        assert np.isfinite(got).all() and got.shape == want.shape
        assert np.sqrt(np.mean((got - want) ** 2)) < share * want.std(), name


def operators(path):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    return [entry["op_name"] for entry in interpreter._get_ops_details()]


def test_float32_equals_keras(tflite, images, expected):
    assert largest_difference(LiteRTRuntime(tflite)(images), expected) < 1e-4


@pytest.mark.parametrize("shape", [(32, 32), (64, 320), (224, 96)])
def test_one_file_serves_other_sizes(tflite, network, rng, shape):
    images = rng.integers(0, 256, (2, *shape, 3)).astype(np.uint8)
    outputs = LiteRTRuntime(tflite, threads=1)(images)
    assert largest_difference(outputs, KerasRuntime(network)(images)) < 1e-4


def test_a_size_between_cells_is_refused(tflite, rng):
    with pytest.raises(ImageError, match=r"50x64.*multiples of 32"):
        LiteRTRuntime(tflite)(rng.integers(0, 256, (1, 64, 50, 3)).astype(np.uint8))


def test_xnnpack_takes_the_whole_graph(tflite, tflite_int8):
    for path in (tflite, tflite_int8):
        names = operators(path)
        assert names.count("DELEGATE") == 1
        assert not {"TILE", "STRIDED_SLICE", "RESIZE_NEAREST_NEIGHBOR", "READ_VARIABLE"} & set(
            names
        )
        assert not [name for name in names if name.startswith(("Flex", "CUSTOM"))]


def test_the_mean_is_subtracted_by_a_convolution(tflite, tflite_int8):
    from retinaface_tf.export.flatbuffer import operator_name, unpack

    for path in (tflite, tflite_int8):
        model = unpack(path.read_bytes())
        names = [operator_name(model, operator) for operator in model.subgraphs[0].operators]
        assert [name for name in names if name != "CAST"][:3] == ["CONV_2D", "PAD", "CONV_2D"]


def test_a_reader_that_knows_only_the_note_finds_the_same_faces(tflite, images):
    note = detect_photo.read_note(tflite.read_bytes()) | {"threshold": 0.6}
    assert note["preset"] == "mobilenet0.25" and note["precision"] == "float32"
    detector = RetinaFace.from_file(tflite, threshold=0.6)
    total = 0
    for image in images:
        boxes, scores, points = detect_photo.detect(
            Interpreter(str(tflite)), note, Image.fromarray(image)
        )
        faces = detector.detect(image)
        total += len(faces)
        np.testing.assert_allclose(faces.boxes, boxes, atol=1e-2)
        np.testing.assert_allclose(faces.scores, scores, atol=1e-5)
        np.testing.assert_allclose(faces.landmarks, points, atol=1e-2)
    assert total > 4


def test_batches_and_threads_change_nothing(tflite, images, expected):
    from concurrent.futures import ThreadPoolExecutor

    runtime = LiteRTRuntime(tflite, threads=2)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda i: runtime(images[i % 4 : i % 4 + 1]), range(16)))
    for i, answer in enumerate(answers):
        single = [values[i % 4 : i % 4 + 1] for values in expected]
        assert largest_difference(answer, single) < 1e-4


def test_int8_is_int8_with_a_scale_a_channel(tflite_int8, tflite):
    from ai_edge_litert import schema_py_generated as schema

    assert tflite_int8.stat().st_size < 0.4 * tflite.stat().st_size
    model = schema.ModelT.InitFromPackedBuf(tflite_int8.read_bytes(), 0)
    graph = model.subgraphs[0]
    kernels = [
        graph.tensors[operator.inputs[1]]
        for operator in graph.operators
        if model.operatorCodes[operator.opcodeIndex].builtinCode
        in (schema.BuiltinOperator.CONV_2D, schema.BuiltinOperator.DEPTHWISE_CONV_2D)
    ]
    assert len(kernels) == 57
    # The mean, the stem and two separable blocks stay in float; see `_FLOAT_LAYERS`.
    types = [kernel.type for kernel in kernels]
    assert types == [schema.TensorType.FLOAT32] * 6 + [schema.TensorType.INT8] * 51
    for kernel in kernels[6:]:
        channels = kernel.shape[3] if kernel.shape[0] == 1 else kernel.shape[0]
        assert len(kernel.quantization.scale) == channels
    assert graph.tensors[graph.inputs[0]].type == schema.TensorType.UINT8


def test_int8_is_near_float(tflite_int8, images, expected):
    assert_near(LiteRTRuntime(tflite_int8)(images), expected, 0.03)


def test_int8_without_photos_is_refused(network, tmp_path):
    with pytest.raises(ConfigError, match="--calibration"):
        export_tflite(network, tmp_path / "x.tflite", precision="int8")


@pytest.mark.slow
@pytest.mark.parametrize(
    "precision, share, size", [("float16", 0.001, 0.55), ("dynamic", 0.025, 0.4)]
)
def test_smaller_weights(network, images, expected, tflite, tmp_path, precision, share, size):
    path = export_tflite(network, tmp_path / "x.tflite", size=(96, 160), precision=precision)
    assert read_checked(path)[1].precision == precision
    assert path.stat().st_size < size * tflite.stat().st_size
    assert_near(LiteRTRuntime(path)(images), expected, share)
    assert operators(path).count("DELEGATE") == 1


@pytest.mark.slow
def test_a_size_that_is_no_multiple_is_fixed_and_images_are_fitted(network, tmp_path, astronaut):
    path = export_tflite(network, tmp_path / "x.tflite", size=(90, 120), input_dtype="uint8")
    runtime = LiteRTRuntime(path)
    assert runtime.fixed_shape == (90, 120) and runtime.metadata.input_dtype == "uint8"
    image = astronaut[:90, :120]
    assert largest_difference(runtime(image[None]), KerasRuntime(network)(image[None])) < 1e-4
    faces = RetinaFace(runtime, threshold=0.0).detect(astronaut)
    assert len(faces) and faces.image_size == (512, 512)
    with pytest.raises(ImageError, match="120x90"):
        runtime(astronaut[None])


def test_a_graph_with_suppression_needs_a_number_of_faces(network, tmp_path):
    settings = Suppression(threshold=0.6, iou=0.4, max_faces=None)
    with pytest.raises(ConfigError, match="max_faces"):
        export_tflite(network, tmp_path / "x.tflite", size=(96, 160), suppression=settings)


@pytest.mark.slow
def test_a_graph_with_suppression_gives_the_same_faces(network, tmp_path, images):
    settings = Suppression(threshold=0.6, iou=0.4, max_faces=20)
    path = export_tflite(network, tmp_path / "x.tflite", size=(96, 160), suppression=settings)
    with pytest.raises(WeightsError, match="--with-nms"):
        LiteRTRuntime(path)
    detector = RetinaFace(KerasRuntime(network), threshold=0.6, max_faces=20)
    for image in images:
        outputs = detect_photo.run(Interpreter(str(path)), image.astype("float32"))
        faces = detector.detect(image)
        assert outputs["num_faces"] == len(faces) > 0
        np.testing.assert_allclose(outputs["boxes"][: len(faces)], faces.boxes, atol=1e-2)
        np.testing.assert_allclose(outputs["scores"][: len(faces)], faces.scores, atol=1e-5)
        np.testing.assert_allclose(outputs["landmarks"][: len(faces)], faces.landmarks, atol=1e-2)
        assert not outputs["scores"][len(faces) :].any()
