"""YuNet as a detector of ours."""

from __future__ import annotations

import numpy as np
import pytest

from retinaface_tf import RetinaFace
from retinaface_tf.errors import WeightsError
from retinaface_tf.inference.test_time_augmentation import Augmentation, AugmentedDetector
from retinaface_tf.inference.yunet import YuNetBackend

# What the public RetinaFace weights say of the NASA portrait: image left eye, right eye, nose, mouth.
POINTS = [[205, 101], [247, 103], [224, 129], [202, 138], [244, 141]]


@pytest.fixture(scope="module")
def yunet(data):
    folder = data / "weights" / "ShiqiYu_libfacedetection.train"
    return RetinaFace(YuNetBackend(folder / "yunet_n_dynamic.onnx"))


def test_its_points_have_our_order_at_every_size(yunet, astronaut):
    for size in (None, 320, 800):
        faces = yunet.detect(astronaut, size=size, threshold=0.6)
        assert len(faces) == 1 and faces.image_size == (512, 512)
        assert np.linalg.norm(faces.landmarks[0] - POINTS, axis=1).mean() < 8
        x1, y1, x2, y2 = faces.boxes[0]
        assert 170 < x1 < 200 < 250 < x2 < 290 and 50 < y1 < 80 < 150 < y2 < 190


def test_it_is_searched_in_all_forms(yunet, astronaut):
    forms = Augmentation(scales=(400, 600), flip=True)
    faces = AugmentedDetector(yunet, forms, threshold=0.6).detect(astronaut)
    assert len(faces) == 1
    assert np.linalg.norm(faces.landmarks[0] - POINTS, axis=1).mean() < 8
    assert not len(yunet.detect(np.zeros((64, 64, 3), np.uint8)))


def test_what_is_no_yunet_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="no YuNet file"):
        YuNetBackend(tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    with pytest.raises(WeightsError, match="cannot read"):
        YuNetBackend(tmp_path / "bad.onnx")
