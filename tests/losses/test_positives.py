"""Which positives a dense branch is computed on."""

from __future__ import annotations

import numpy as np
from keras import ops

from retinaface_tf.losses.positives import choose_positives, rows_of_anchors


def test_positives_are_spread_evenly_and_stand_for_all(rng):
    candidates = rng.random((5, 400)) < np.array([0, 0.005, 0.02, 0.3, 1])[:, None]
    counts = candidates.sum(axis=1)
    chosen = choose_positives(ops.convert_to_tensor(candidates), 8)
    image, anchor = (np.asarray(v) for v in chosen[:2])
    assert candidates[image, anchor].all()
    assert len({*zip(image.tolist(), anchor.tolist())}) == len(image)
    taken = np.bincount(image, minlength=5)
    np.testing.assert_array_equal(taken, np.minimum(counts, 8))
    np.testing.assert_allclose(chosen.sum_by_image(ops.ones(len(image))), counts, rtol=1e-6)
    np.testing.assert_array_equal(anchor[image == 4], np.arange(25, 400, 50))
    few = (counts > 0) & (counts <= 8)
    for number in np.flatnonzero(few):
        np.testing.assert_array_equal(anchor[image == number], np.flatnonzero(candidates[number]))
    nobody = choose_positives(ops.zeros((2, 7), "bool"), 8)
    assert np.asarray(nobody.sum_by_image(ops.zeros(0))).tolist() == [0, 0]


def test_chosen_anchors_take_their_own_entries(rng):
    candidates = rng.random((3, 50)) < 0.3
    chosen = choose_positives(ops.convert_to_tensor(candidates), 5)
    image, anchor = (np.asarray(v) for v in chosen[:2])
    values = rng.normal(size=(3, 50, 2)).astype(np.float32)
    np.testing.assert_array_equal(chosen.take(values), values[image, anchor])
    place = rng.integers(0, 4, len(image)).astype(np.int32)
    few = values[:, :4]
    np.testing.assert_array_equal(chosen.take(few, place), few[image, place])


def test_anchors_without_a_face_or_a_mesh_have_no_row():
    faces = np.int32([[0, -1, 2], [1, 1, -1]])
    meshes = np.int32([[4, -1, 0], [-1, 7, -1]])
    rows = rows_of_anchors(ops.convert_to_tensor(faces), ops.convert_to_tensor(meshes))
    assert np.asarray(rows).tolist() == [[4, -1, 0], [7, 7, -1]]
    none = rows_of_anchors(np.int32([[-1, -1]]), np.zeros((1, 0), np.int32))
    assert np.asarray(none).tolist() == [[-1, -1]]
