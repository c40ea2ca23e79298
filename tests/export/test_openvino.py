"""Every export in engines that nobody here wrote, OpenVINO and onnxruntime: the answers of Keras.

`pytest -m slow -s` on this file prints the greatest differences.
"""

import numpy as np
import pytest

from retinaface_tf import RetinaFace
from retinaface_tf.inference.runtimes.keras import KerasRuntime
from retinaface_tf.inference.runtimes.open import open_runtime
from retinaface_tf.modelfile.metadata import Suppression

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("tf2onnx")
pytestmark = pytest.mark.slow
SETTINGS = Suppression(threshold=0.6, iou=0.4, max_faces=20)


def in_openvino(path, images):
    """The file's outputs by name."""
    openvino = pytest.importorskip("openvino")
    # Processors with bfloat16 would compute in that.
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    network = openvino.Core().compile_model(str(path), "CPU", exact)
    found = network(images)
    return {name: np.array(found[o]) for o in network.outputs for name in o.get_names()}


def in_onnxruntime(path, images):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": images})))


ENGINES = {"OpenVINO": in_openvino, "onnxruntime": in_onnxruntime}


@pytest.fixture(scope="module", params=[17, 19, 22])
def written(request, network, files):
    """Raw heads and faces, of one opset."""
    from retinaface_tf.export.onnx import export_onnx

    opset = request.param
    return {
        settings: export_onnx(
            network, files / f"{opset}-{settings is None}.onnx", opset=opset, suppression=settings
        )
        for settings in (None, SETTINGS)
    }


@pytest.mark.parametrize("engine", list(ENGINES))
def test_onnx_of_every_opset_answers_as_keras(engine, written, network, images, expected):
    floats = images.astype(np.float32)
    raw = ENGINES[engine](written[None], floats)
    worst = {n: float(np.abs(raw[n] - getattr(expected, n)).max()) for n in expected._fields}
    found, most = ENGINES[engine](written[SETTINGS], floats), 0.0
    detector = RetinaFace(KerasRuntime(network), threshold=0.6, max_faces=20)
    for number, image in enumerate(images):
        faces = detector.detect(image, large_faces=False)
        assert found["num_faces"][number] == len(faces) > 0
        for name in ("boxes", "landmarks"):
            ours = found[name][number][: len(faces)]
            most = max(most, float(np.abs(ours - getattr(faces, name)).max()))
    print(f"\n{engine}, {written[None].name}: {worst}, faces {most:.1e} px")
    assert max(worst.values()) < 1e-4 and most < 1e-2


def test_openvino_reads_tflite_too(tflite, tflite_int8, images, expected):
    raw = in_openvino(tflite, images[:1].astype(np.float32))
    for name in expected._fields:
        np.testing.assert_allclose(raw[name], getattr(expected, name)[:1], atol=1e-4)
    quantized = in_openvino(tflite_int8, images[:1])
    ours = open_runtime(tflite_int8, threads=1)(images[:1])
    worst = {n: float(np.abs(quantized[n] - getattr(ours, n)).max()) for n in ours._fields}
    print(f"\nOpenVINO beside LiteRT, int8: {worst}")
    assert worst["scores"] < 0.05
