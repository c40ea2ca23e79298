"""Crops against OpenCV's resizing and against plain indexing."""

import cv2
import numpy as np
import pytest

pytest.importorskip("keras", reason="needs Keras")
from retinaface_tf.geometry.bilinear import crop_squares


def test_whole_pixels_are_copied(rng):
    images = rng.integers(0, 256, (2, 20, 30, 3), dtype=np.uint8)
    found = crop_squares(images, np.array([1, 0]), np.array([[12, 9, 8, 8], [20, 8, 8, 8]]), 8, 1)
    np.testing.assert_allclose(found[0], images[1, 5:13, 8:16])
    np.testing.assert_allclose(found[1], images[0, 4:12, 16:24])


def test_enlarging_is_bilinear_as_opencvs(rng):
    image = rng.uniform(0, 255, (16, 16, 3)).astype(np.float32)
    found = crop_squares(image[None], np.array([0]), np.array([[8, 8, 16, 16]]), 40, 1)
    np.testing.assert_allclose(found[0], cv2.resize(image, (40, 40)), atol=1e-3)


def test_halving_with_two_samples_averages_blocks(rng):
    image = rng.uniform(0, 1, (16, 16, 3)).astype(np.float32)
    found = crop_squares(image[None], np.array([0]), np.array([[8, 8, 16, 16]]), 8, 2)
    np.testing.assert_allclose(
        found[0], cv2.resize(image, (8, 8), interpolation=cv2.INTER_AREA), atol=1e-6
    )


def test_beyond_the_border_it_goes_on(rng):
    image = rng.uniform(0, 1, (10, 10, 1)).astype(np.float32)
    found = np.asarray(crop_squares(image[None], np.array([0]), np.array([[0, 5, 20, 10]]), 10, 1))
    np.testing.assert_allclose(found[0, :, :5, 0], np.repeat(image[:, :1, 0], 5, 1), atol=1e-6)
