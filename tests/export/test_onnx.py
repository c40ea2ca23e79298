"""ONNX files: equal to Keras at any batch and size; faces by NonMaxSuppression as in numpy."""

import numpy as np
import pytest

from retinaface_tf import RetinaFace
from retinaface_tf.errors import ConfigError, WeightsError
from retinaface_tf.inference.runtimes.keras import KerasRuntime
from retinaface_tf.inference.runtimes.open import open_runtime

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("tf2onnx")


@pytest.mark.parametrize("shape", [(1, 64, 64), (3, 50, 77), (2, 128, 33)])
def test_any_batch_and_size_equals_keras(onnx, network, rng, shape):
    images = rng.integers(0, 256, (*shape, 3)).astype(np.uint8)
    outputs = open_runtime(onnx, threads=1)(images)
    for got, want in zip(outputs, KerasRuntime(network)(images)):
        assert np.isfinite(got).all() and got.shape == want.shape
        np.testing.assert_allclose(got, want, atol=1e-4)


@pytest.mark.parametrize("limit", [9, None])
def test_faces_of_the_graph_are_those_of_numpy(network, images, tmp_path, limit):
    import onnx as onnx_package

    from retinaface_tf.export.onnx import export_onnx
    from retinaface_tf.modelfile.metadata import Suppression

    settings = Suppression(threshold=0.6, iou=0.4, max_faces=limit)
    model = onnx_package.load(export_onnx(network, tmp_path / "x.onnx", suppression=settings))
    onnx_package.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    # A black image in between: one without faces must not shift its neighbours' rows.
    batch = np.concatenate([images[:2], np.zeros_like(images[:1]), images[2:]])
    names = ["boxes", "scores", "landmarks", "num_faces"]
    outputs = session.run(names, {"image": batch.astype(np.float32)})
    rows = limit or max(outputs[3])
    assert [v.shape for v in outputs] == [(5, rows, 4), (5, rows), (5, rows, 5, 2), (5,)]
    detector = RetinaFace(KerasRuntime(network), threshold=0.6, max_faces=limit)
    for boxes, scores, landmarks, count, image in zip(*outputs, batch):
        faces = detector.detect(image)
        assert count == len(faces)
        np.testing.assert_allclose(boxes[:count], faces.boxes, atol=1e-2)
        np.testing.assert_allclose(scores[:count], faces.scores, atol=1e-5)
        np.testing.assert_allclose(landmarks[:count], faces.landmarks, atol=1e-2)
        assert not scores[count:].any() and not boxes[count:].any()
    assert outputs[3].sum() > 4


def test_an_opset_out_of_range_is_refused(network, tmp_path):
    from retinaface_tf.export.onnx import export_onnx

    with pytest.raises(ConfigError, match="Opset 9"):
        export_onnx(network, tmp_path / "x.onnx", opset=9)


@pytest.mark.slow
def test_the_opset_is_the_one_asked_for(network, tmp_path):
    import onnx as onnx_package

    from retinaface_tf.export.onnx import export_onnx
    from retinaface_tf.modelfile.metadata import Suppression

    settings = Suppression(threshold=0.5, iou=0.4, max_faces=5)
    path = export_onnx(network, tmp_path / "x.onnx", opset=13, suppression=settings)
    model = onnx_package.load(path)
    assert {o.version for o in model.opset_import if o.domain in ("", "ai.onnx")} == {13}
    onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    with pytest.raises(WeightsError, match="--with-nms"):
        open_runtime(path)
