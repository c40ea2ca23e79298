"""Similarity fits against scikit-image's, rotations against scipy's."""

import numpy as np
import pytest

from retinaface_tf.geometry.similarity import estimate_similarity, fit_similarity, rotation_matrix


@pytest.fixture(scope="module")
def rotation():
    return pytest.importorskip("scipy.spatial.transform", reason="needs SciPy").Rotation


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


def test_many_sets_in_space_against_what_they_were_made_with(rng, rotation):
    source = rng.normal(size=(4, 9, 3))
    turns = rotation.from_rotvec(rng.normal(size=(4, 3))).as_matrix()
    scales, shifts = rng.uniform(0.5, 3, 4), rng.normal(size=(4, 3))
    target = scales[:, None, None] * source @ turns.swapaxes(1, 2) + shifts[:, None]
    for found, expected in zip(fit_similarity(source, target), (scales, turns, shifts)):
        np.testing.assert_allclose(found, expected, atol=1e-12)
    assert fit_similarity(np.ones((2, 5, 3)), source[:2, :5])[0].tolist() == [0, 0]


def test_rotation_vectors_mean_what_scipy_means(rng, rotation, tf):
    pose = np.concatenate([rng.normal(0, 1.5, (20, 3)), np.zeros((1, 3)), np.full((1, 3), 1e-9)])
    expected = rotation.from_rotvec(pose).as_matrix()
    np.testing.assert_allclose(rotation_matrix(tf.constant(pose)), expected, atol=1e-11)
    np.testing.assert_allclose(rotation_matrix(pose), expected, atol=1e-11)


def test_rotation_has_the_right_gradient_at_zero(tf):
    pose = tf.Variable(np.zeros((1, 3), np.float32))
    with tf.GradientTape() as tape:
        sine = rotation_matrix(pose)[0, 1, 0]
    np.testing.assert_allclose(tape.gradient(sine, pose), [[0, 0, 1]], atol=1e-5)
