"""The OpenVINO runtime: LiteRT's answers, the same bits whatever came before, bounded memory."""

from __future__ import annotations

import numpy as np
import pytest

from retinaface_tf import RetinaFace, get_preset
from retinaface_tf.errors import ConfigError, WeightsError
from retinaface_tf.inference.runtimes import openvino as room
from retinaface_tf.inference.runtimes.litert import LiteRTRuntime
from retinaface_tf.inference.runtimes.openvino import OpenVINORuntime
from retinaface_tf.modelfile.metadata import ModelMetadata, append_checksum
from retinaface_tf.weights.choose_file import computes_in_bfloat16

pytest.importorskip("openvino")
SHAPES = [(64, 96), (96, 64), (128, 64), (96, 96)]
SOURCE = get_preset("lite").source
FILES = {
    "tflite": SOURCE.file("tflite"),
    "onnx": SOURCE.file("onnx"),
    "int8": SOURCE.file("tflite", "int8"),
}


@pytest.fixture
def batches(rng):
    """Two images of each shape."""
    return [rng.integers(0, 256, (2, *shape, 3), dtype=np.uint8) for shape in SHAPES]


@pytest.mark.parametrize("kind", FILES)
def test_answers_are_those_of_litert(kind, batches):
    """Scores, of int8 to a few steps: OpenVINO joins operators before it rounds."""
    batches = batches[:2]
    ours = OpenVINORuntime(FILES[kind], threads=1)
    litert = LiteRTRuntime(FILES["tflite" if kind == "onnx" else kind], threads=1)
    for images in batches:
        found, wanted = ours(images), litert(images)
        tolerance = 0.05 if kind == "int8" else 1e-5
        np.testing.assert_allclose(found.scores, wanted.scores, atol=tolerance)
        if kind != "int8":
            np.testing.assert_allclose(found.box_deltas, wanted.box_deltas, atol=1e-3)


@pytest.mark.parametrize("bfloat16", [False, True])
def test_the_same_bits_whatever_came_before(bfloat16, batches, monkeypatch):
    """By a network of one shape or of any, alone or in a batch, on one thread or two."""
    if bfloat16 and not computes_in_bfloat16():
        pytest.skip("this processor does not compute in bfloat16")
    batches = batches[:3]
    alone = [OpenVINORuntime(FILES["tflite"], bfloat16=bfloat16)(images) for images in batches]
    monkeypatch.setattr(room, "_OWN_AFTER", 4 * 96 * 96)
    monkeypatch.setattr(room, "_KEPT", 2 * 96 * 96)
    runtime = OpenVINORuntime(FILES["tflite"], threads=1, bfloat16=bfloat16)
    shapes = set()
    for _ in range(3):
        for images, wanted in zip(batches, alone):
            for found, expected in zip(runtime(images), wanted):
                np.testing.assert_array_equal(found, expected)
            assert sum(h * w for h, w in runtime._of_shape) <= 2 * 96 * 96
            shapes |= set(runtime._of_shape)
    assert runtime._any is not None and shapes == set(SHAPES[:3])


def test_bfloat16_moves_scores_by_little_and_is_refused_where_it_would_be_imitated(
    astronaut, monkeypatch
):
    if computes_in_bfloat16():
        exact = RetinaFace.from_preset(runtime="openvino").detect(astronaut)
        rounded = RetinaFace.from_preset(runtime="openvino-bf16").detect(astronaut)
        assert len(exact) == len(rounded) == 1 and rounded != exact
        np.testing.assert_allclose(rounded.boxes, exact.boxes, atol=2)
    monkeypatch.setattr(room, "computes_in_bfloat16", lambda: False)
    with pytest.raises(ConfigError, match="does not compute in bfloat16: take the runtime 'open"):
        RetinaFace.from_preset(runtime="openvino-bf16")


def test_the_options_are_those_asked_for():
    runtime = OpenVINORuntime(FILES["tflite"], threads=1)
    runtime(np.zeros((1, 64, 64, 3), np.uint8))
    compiled = runtime._of_shape[64, 64].get_compiled_model()
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
    assert compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "f32"


def test_a_file_that_openvino_cannot_read_is_one_sentence(tmp_path):
    path = tmp_path / "whole.tflite"
    note = ModelMetadata(config=get_preset("lite").config).to_json()
    path.write_bytes(append_checksum(note.encode()))
    with pytest.raises(WeightsError, match=r"^OpenVINO cannot run \S+whole\.tflite: [^\n]+\.$"):
        OpenVINORuntime(path)
