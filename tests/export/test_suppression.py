"""Suppression in a SavedModel's graph against numpy's."""

import numpy as np
import pytest
import tensorflow as tf

from retinaface_tf.export import suppression
from retinaface_tf.geometry.nms import non_max_suppression


def crowd(rng, faces: int, answers: int):
    """Boxes [N, 4] of faces of 3 to 200 pixels that are answered so many times, and their descending scores [N]."""
    sides = np.repeat(rng.choice([3, 20, 25, 200], (faces, 1)), answers, axis=0)
    sides = sides * rng.uniform(0.9, 1.1, (faces * answers, 2))
    centres = np.repeat(rng.uniform(0, (640, 480), (faces, 2)), answers, axis=0)
    centres = centres + sides * rng.normal(0, 0.08, sides.shape)
    boxes = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1)
    scores = np.sort(rng.choice(np.linspace(0.1, 1, 300), len(boxes)))[::-1]  # many are equal
    return rng.permutation(boxes).astype(np.float32), scores.astype(np.float32)


@pytest.mark.parametrize("pairs", [1 << 18, 100], ids=["by pairs", "too many pairs"])
@pytest.mark.parametrize("iou", [0.0, 0.4, 0.7])
def test_a_crowd_is_suppressed_as_in_numpy(rng, monkeypatch, pairs, iou):
    monkeypatch.setattr(suppression, "_MAX_PAIRS", pairs)
    boxes, scores = (np.stack(both) for both in zip(crowd(rng, 300, 4), crowd(rng, 120, 10)))
    scores[0, 100:150] = 0  # outside the image
    scores[1, 700:] = 0  # padding
    boxes[1, 700:] = boxes[1, 0]
    indices, valid = suppression.suppress(boxes, scores, iou, tf.constant(1000))
    for number in range(2):
        candidates = np.flatnonzero(scores[number])
        wanted = candidates[
            non_max_suppression(boxes[number, candidates], scores[number, candidates], iou)
        ]
        assert 10 < len(wanted) < len(candidates)
        np.testing.assert_array_equal(indices[number][valid[number]], wanted[:1000])
    few, valid = suppression.suppress(boxes, scores, iou, tf.constant(5))
    np.testing.assert_array_equal(few, indices[:, :5])
    assert valid.numpy().all()


def test_few_and_no_candidates(rng):
    boxes, scores = crowd(rng, 10, 4)
    scores = np.stack([scores, np.zeros_like(scores)])
    indices, valid = suppression.suppress(np.stack([boxes, boxes]), scores, 0.4, tf.constant(40))
    np.testing.assert_array_equal(indices[0][valid[0]], non_max_suppression(boxes, scores[0], 0.4))
    assert not valid[1].numpy().any()
