"""The pulled network against onnxruntime running the very file that was converted."""

import numpy as np
import pytest

from retinaface_tf import RetinaFace
from retinaface_tf.geometry.boxes import pairwise_iou
from retinaface_tf.images.read import read_image
from retinaface_tf.inference.preprocess import prepare
from retinaface_tf.weights.choose_file import weights_path

PRESET = "mobilenet0.25"


@pytest.fixture(scope="module")
def detector():
    if not weights_path(PRESET).is_file():
        pytest.skip(f"needs `retinaface-tf weights pull {PRESET}`")
    return RetinaFace.from_preset(PRESET, runtime="keras")


@pytest.fixture(scope="module")
def reference(detector, public_onnx):
    pytest.importorskip("onnxruntime")
    from benchmarks.onnx_reference import OnnxReference

    return OnnxReference(public_onnx)


def crops(astronaut):
    """Twenty images of different sizes, most not a multiple of any stride."""
    rng = np.random.default_rng(5)
    for _ in range(20):
        size = tuple(sorted((int(rng.integers(60, 700)), int(rng.integers(250, 900)))))
        yield prepare(astronaut[: rng.integers(250, 513), : rng.integers(320, 513)], size).pixels


def largest_difference(detector, reference, image):
    outputs = detector.runtime(image[None])
    deltas, scores, points = reference.heads(image)
    assert outputs.scores.shape[1] == len(scores)
    return max(
        np.abs(outputs.scores[0] - scores).max(),
        np.abs(outputs.box_deltas[0] - deltas).max(),
        np.abs(outputs.landmark_deltas[0] - points).max(),
    )


def test_raw_heads_of_twenty_sizes(detector, reference, astronaut):
    worst = max(largest_difference(detector, reference, image) for image in crops(astronaut))
    assert worst <= 1e-4


def same_faces(detector, reference, image):
    """Asserts that both find the same faces at 0.5 and returns how many."""
    faces = detector.detect(image, size="original", large_faces=False, zoom="off")
    boxes, scores, points = reference.detect(image, threshold=0.5)
    # A face within rounding of the threshold may fall on either side.
    sure, sure_reference = faces.scores > 0.501, scores > 0.501
    iou = pairwise_iou(faces.boxes.astype(np.float64), boxes)
    assert (iou[sure].max(axis=1, initial=0) >= 0.99).all()
    assert (iou[:, sure_reference].max(axis=0, initial=0) >= 0.99).all()
    for i in np.flatnonzero(sure):
        assert np.abs(faces.landmarks[i] - points[iou[i].argmax()]).max() <= 0.5
    return int(sure.sum())


def test_the_portrait_gives_the_same_face(detector, reference, astronaut):
    assert same_faces(detector, reference, astronaut) == 1


def test_real_photos_give_the_same_heads_and_faces(detector, reference, data):
    paths = sorted((data / "wider/val/images").rglob("*.jpg"))
    paths += sorted((data / "fddb/originalPics/2003").rglob("*.jpg"))[:10]
    assert len(paths) >= 20
    found = 0
    for path in paths:
        image = read_image(path)
        assert largest_difference(detector, reference, image) <= 1e-4, path
        found += same_faces(detector, reference, image)
    assert found > 300
