"""L_pixel against a plain loop, and what it rewards."""

import numpy as np
import tensorflow as tf

from retinaface_tf.reconstruction.head import pixel_loss


def test_against_a_loop(rng):
    rendered, crop = rng.uniform(0, 1, (2, 2, 6, 6, 3))
    expected = []
    for one, other in zip(rendered, crop):
        total = 0.0
        for y in range(6):
            for x in range(6):
                total += np.abs(one[y, x] - other[y, x]).sum()
        expected.append(total / (6 * 6 * 3))
    np.testing.assert_allclose(pixel_loss(rendered, crop), expected)


def test_over_what_is_covered(rng):
    """Drawn over the crop, pixels the mesh leaves free differ by nothing and count for nothing."""
    rendered, crop = rng.uniform(0, 1, (2, 1, 6, 6, 3))
    coverage = np.zeros((1, 6, 6, 1))
    coverage[:, 2:4, 1:5] = 1
    over = rendered * coverage + crop * (1 - coverage)
    expected = np.abs(rendered - crop)[:, 2:4, 1:5].mean()
    np.testing.assert_allclose(pixel_loss(over, crop, coverage), [expected])


def test_a_face_outside_its_crop_is_a_finite_zero():
    crop = tf.random.uniform((1, 4, 4, 3))
    assert pixel_loss(crop, crop, tf.zeros((1, 4, 4, 1))).numpy().tolist() == [0]
