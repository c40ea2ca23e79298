"""The five points of a mesh, in numpy and on the Keras backend."""

import numpy as np
from keras import ops

from retinaface_tf.mesh.topology import five_of_vertices


def test_they_are_eye_centres_nose_tip_and_mouth_corners(rng):
    vertices = rng.normal(size=(3, 70, 2))
    five = five_of_vertices(vertices)
    np.testing.assert_array_equal(five[:, 0], vertices[:, 36:42].mean(axis=1))
    np.testing.assert_array_equal(five[:, 1], vertices[:, 42:48].mean(axis=1))
    np.testing.assert_array_equal(five[:, 2:], vertices[:, [30, 48, 54]])
    tensors = five_of_vertices(ops.convert_to_tensor(vertices))
    np.testing.assert_allclose(ops.convert_to_numpy(tensors), five, atol=1e-6)
