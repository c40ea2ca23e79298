"""One-to-one matching by overlap, held to its definition."""

import numpy as np
import pytest

from retinaface_tf.geometry.boxes import match_pairs


def take_the_best(iou, least):
    """The greatest overlap left, until it is too small."""
    iou, pairs = iou.copy(), []
    while iou.size and iou.max() >= least:
        row, column = np.unravel_index(iou.argmax(), iou.shape)
        pairs.append((row, column))
        iou[row], iou[:, column] = -1, -1
    return pairs


@pytest.mark.parametrize("least", [0, 0.3, 0.9])
@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (1, 1), (7, 12), (30, 9)])
def test_pairs_equal_the_definition_with_ties_too(rng, shape, least):
    iou = np.round(rng.uniform(0, 1, shape), 1)
    rows, columns = match_pairs(iou, least)
    assert [*zip(rows, columns)] == take_the_best(iou, least)
    if least == 0:
        assert len(rows) == min(shape)


def test_a_pair_at_the_least_overlap_counts():
    rows, columns = match_pairs(np.array([[0.5, 0.4]]), 0.5)
    assert (rows.tolist(), columns.tolist()) == ([0], [0])
    assert len(match_pairs(np.array([[0.4999]]), 0.5)[0]) == 0
