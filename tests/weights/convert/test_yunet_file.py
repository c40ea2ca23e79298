"""YuNet's ONNX file: the same function in our network, held to onnxruntime on the file itself."""

from __future__ import annotations

import numpy as np
import pytest

from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.errors import WeightsError
from retinaface_tf.presets import get_preset
from retinaface_tf.weights.convert.convert import convert_weights

FILE = "weights/ShiqiYu_libfacedetection.train/yunet_n_dynamic.onnx"


@pytest.fixture(scope="module")
def yunet(data):
    path = data / FILE
    if not path.is_file():
        pytest.skip(f"needs YuNet's file {path}")
    return path


def test_the_converted_network_equals_onnxruntime(yunet, astronaut):
    onnxruntime = pytest.importorskip("onnxruntime")
    image = astronaut[:256, 96:416]
    session = onnxruntime.InferenceSession(yunet)
    names = [f"{kind}_{stride}" for kind in ("cls", "obj", "bbox", "kps") for stride in (8, 16, 32)]
    bgr = np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1)[None]).astype(np.float32)
    found = dict(zip(names, session.run(names, {"input": bgr})))

    def theirs(kind):
        return np.concatenate([found[f"{kind}_{stride}"] for stride in (8, 16, 32)], axis=1)[0]

    network = convert_weights(yunet, get_preset("yunet").config)
    ours = {k: np.asarray(v)[0] for k, v in network(image[None], training=False).items()}
    for column, kind, factor in ((1, "cls", 2), (0, "obj", -2)):
        probability = 1 / (1 + np.exp(-factor * ours["class_logits"][:, column].astype(np.float64)))
        np.testing.assert_allclose(probability, theirs(kind)[:, 0], atol=1e-5)
    # Their offsets are in strides from a cell's corner; anchors have its centre and the stride.
    boxes = theirs("bbox")
    np.testing.assert_allclose(ours["box_deltas"][:, :2] * 0.1 + 0.5, boxes[:, :2], atol=1e-5)
    np.testing.assert_allclose(ours["box_deltas"][:, 2:] * 0.2, boxes[:, 2:], atol=1e-5)
    np.testing.assert_allclose(ours["landmark_deltas"] * 0.1 + 0.5, theirs("kps"), atol=1e-5)


def test_faces_are_those_of_opencv(yunet, astronaut):
    from retinaface_tf import RetinaFace
    from retinaface_tf.inference.runtimes.keras import KerasRuntime
    from retinaface_tf.inference.yunet import YuNetBackend

    network = convert_weights(yunet, get_preset("yunet").config)
    ours = RetinaFace(KerasRuntime(network)).detect(astronaut, size="original")
    theirs = RetinaFace(YuNetBackend(yunet)).detect(astronaut, size="original")
    assert len(ours) == len(theirs) == 1
    # Another of the cells on the face may rank first: 2 of 90 pixels.
    np.testing.assert_allclose(ours.boxes, theirs.boxes, atol=2)
    np.testing.assert_allclose(ours.landmarks, theirs.landmarks, atol=2)
    # The mean of two logits is nearer the larger probability than the geometric mean is.
    assert theirs.scores[0] < ours.scores[0] < 1


def test_other_anchors_are_refused(yunet):
    with pytest.raises(WeightsError, match="--preset yunet"):
        convert_weights(yunet, RetinaFaceConfig(backbone="yunet", separable=True))


def test_another_detector_is_refused(public_onnx):
    with pytest.raises(WeightsError, match="not YuNet-n's file"):
        convert_weights(public_onnx, get_preset("yunet").config)


def test_a_truncated_file_is_refused(yunet, tmp_path):
    path = tmp_path / "cut.onnx"
    path.write_bytes(yunet.read_bytes()[:50_000])
    with pytest.raises(WeightsError, match=r"cut\.onnx"):
        convert_weights(path, get_preset("yunet").config)
