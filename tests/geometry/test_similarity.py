"""Similarity fits against scikit-image's."""

import numpy as np
import pytest

from retinaface_tf.geometry.similarity import estimate_similarity


def test_equals_scikit_image(rng):
    transform = pytest.importorskip("skimage.transform")
    for _ in range(50):
        source, target = rng.normal(size=(2, 5, 2)) * 50
        expected = transform.SimilarityTransform.from_estimate(source, target)
        np.testing.assert_allclose(
            estimate_similarity(source, target), expected.params[:2], atol=1e-9
        )


def test_never_mirrors():
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float)
    matrix = estimate_similarity(square, square * [-1, 1])
    assert np.linalg.det(matrix[:, :2]) >= 0


def test_coinciding_points_are_refused():
    with pytest.raises(ValueError, match="coincide"):
        estimate_similarity(np.ones((5, 2)), np.zeros((5, 2)))
