"""Average precision of a network that is being trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from retinaface_tf.data.readers.annotation import AnnotatedImage
from retinaface_tf.images.save import encode_jpeg
from retinaface_tf.training.datasets import ValidationSet
from retinaface_tf.training.evaluation import Evaluator
from retinaface_tf.weights.choose_file import load_preset


@pytest.fixture(scope="module")
def network():
    return load_preset("lite")


@pytest.mark.parametrize("elsewhere, expected", [(0, 1.0), (1, 0.5), (3, 0.25)])
def test_it_is_the_share_of_faces_found_where_none_is_false(
    network, astronaut, elsewhere, expected
):
    """The portrait's only face is found; further ones are labelled where there is none."""
    boxes = np.float32([[180, 75, 270, 195]] + [[20, 300, 60, 350]] * elsewhere)
    image = AnnotatedImage(Path("astronaut.jpg"), boxes, np.full((len(boxes), 5, 2), np.nan))
    evaluator = Evaluator(network, ValidationSet([image], [encode_jpeg(astronaut)]), None)
    evaluation = evaluator()
    assert evaluation.average_precision == pytest.approx(expected, abs=0.01)
    (faces,) = evaluation.faces
    assert faces.scores[0] > 0.5
    np.testing.assert_array_equal(evaluator.image(0).shape, astronaut.shape)


def test_later_weights_are_the_ones_evaluated(network, astronaut):
    boxes = np.float32([[180, 75, 270, 195]])
    image = AnnotatedImage(Path("astronaut.jpg"), boxes, np.full((1, 5, 2), np.nan))
    evaluator = Evaluator(network, ValidationSet([image], [encode_jpeg(astronaut)]), None)
    before = evaluator().faces[0]
    heads = [layer for layer in network.layers if layer.name.endswith("_class_spread")]
    kept = [head.get_weights() for head in heads]
    try:
        for head, (kernel, bias) in zip(heads, kept):
            head.set_weights([kernel, bias - np.tile(np.float32([0, 9]), len(bias) // 2)])
        after = evaluator().faces[0]
    finally:
        for head, weights in zip(heads, kept):
            head.set_weights(weights)
    assert before.scores[0] > 0.5 > 0.05 > after.scores.max(initial=0)
