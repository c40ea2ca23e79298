"""Every kind of bad label and image is found, named and left out."""

import numpy as np
import pytest

from retinaface_tf.data.check import check_images
from retinaface_tf.data.readers.annotation import AnnotatedImage
from retinaface_tf.data.synthetic.scene import encode_jpeg


@pytest.fixture
def folder(tmp_path, rng):
    pixels = rng.integers(0, 255, (60, 80, 3), dtype=np.uint8)
    (tmp_path / "good.jpg").write_bytes(encode_jpeg(pixels))
    (tmp_path / "cut.jpg").write_bytes(encode_jpeg(pixels)[:3000])
    (tmp_path / "text.jpg").write_text("not an image")
    return tmp_path


def test_all_problems_are_named_and_skipped(folder):
    boxes = [
        [10, 10, 30, 30],  # good
        [10, 10, 10, 30],
        [30, 10, 10, 30],
        [np.nan, 10, 30, 30],
        [100, 10, 120, 30],
        [40, 40, 60, 58],  # a point far outside
        [70, 50, 95, 75],  # reaches over the edge: usual, not a problem
    ]
    landmarks = np.full((7, 5, 2), np.nan)
    landmarks[0] = [[15, 15], [25, 15], [20, 20], [16, 25], [31, 25]]
    landmarks[6] = [[75, 55], [90, 55], [82, 60], [75, 70], [90, 70]]
    landmarks[5] = [[45, 45], [55, 45], [50, 50], [46, 55], [5, 5]]
    images = [
        AnnotatedImage(folder / "good.jpg", boxes, landmarks),
        AnnotatedImage(folder / "cut.jpg", [[1, 1, 5, 5]]),
        AnnotatedImage(folder / "text.jpg", [[1, 1, 5, 5]]),
        AnnotatedImage(folder / "none.jpg", [[1, 1, 5, 5]]),
    ]
    result = check_images(images)
    assert [(p.kind, p.path.rpartition("/")[2], p.face) for p in result.problems] == [
        ("zero size", "good.jpg", 1),
        ("negative size", "good.jpg", 2),
        ("NaN in box", "good.jpg", 3),
        ("outside the image", "good.jpg", 4),
        ("landmarks outside the box", "good.jpg", 5),
        ("undecodable image", "cut.jpg", None),
        ("undecodable image", "text.jpg", None),
        ("missing file", "none.jpg", None),
    ]
    (kept,) = result.images
    np.testing.assert_array_equal(kept.boxes, np.float32(boxes)[[0, 5, 6]])
    assert np.isfinite(kept.landmarks[[0, 2]]).all() and np.isnan(kept.landmarks[1]).all()
    assert "2 undecodable image" in result.summary()
    assert "3 images and 4 faces are skipped" in result.summary()


def test_headers_alone_miss_a_cut_image(folder):
    images = [AnnotatedImage(folder / "cut.jpg", []), AnnotatedImage(folder / "good.jpg", [])]
    assert not check_images(images, decode=False).problems
    assert len(check_images(images).problems) == 1
