"""`detect --quality`, `--min-quality`, `--largest` and `--sort`."""

from __future__ import annotations

import numpy as np
import pytest

from retinaface_tf.cli.face_choice import FaceChoice
from retinaface_tf.errors import ConfigError
from retinaface_tf.faces.faces import Faces

NOISE = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)


@pytest.fixture
def faces() -> Faces:
    """Large and far right, small, middling and far left: by score."""
    boxes = np.array([[200, 20, 290, 120], [100, 20, 120, 40], [10, 50, 70, 120]], np.float32)
    points = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]])
    landmarks = boxes[:, None, :2] + points * (boxes[:, None, 2:] - boxes[:, None, :2])
    scores = np.array([0.9, 0.8, 0.7], np.float32)
    return Faces(boxes, scores, landmarks.astype(np.float32), (200, 300))


@pytest.mark.parametrize(
    "options, order",
    [
        ({}, [0.9, 0.8, 0.7]),
        ({"sort": "size"}, [0.9, 0.7, 0.8]),
        ({"sort": "position"}, [0.7, 0.8, 0.9]),
        ({"largest": 2}, [0.9, 0.7]),
        ({"largest": 2, "sort": "position"}, [0.7, 0.9]),
        ({"largest": 9, "sort": "quality"}, [0.9, 0.7, 0.8]),
        ({"min_quality": 0.3, "sort": "position"}, [0.7, 0.9]),
        ({"min_quality": 1.0}, []),
    ],
)
def test_faces_are_chosen_and_ordered(faces, options, order):
    chosen, quality = FaceChoice(**options).of(faces, NOISE)
    assert chosen.scores.tolist() == pytest.approx(order) and quality is None
    assert len(FaceChoice(**options).of(faces[:0], NOISE)[0]) == 0


def test_quality_is_that_of_the_faces_in_their_order(faces):
    chosen, quality = FaceChoice(quality=True, sort="position").of(faces, NOISE)
    assert quality.size.tolist() == chosen.quality(NOISE).size.tolist()
    entry = quality.entry(2)
    assert list(entry) == ["quality", "sharpness", "size", "exposure", "pose", "cut_off"]
    assert entry["size"] == pytest.approx(94.87, abs=0.01) and len(entry["pose"]) == 3


@pytest.mark.parametrize(
    "options", [{"sort": "age"}, {"largest": 0}, {"min_quality": 2}, {"min_quality": float("nan")}]
)
def test_choices_that_cannot_be_are_said(options):
    with pytest.raises(ConfigError, match=f"--{next(iter(options)).replace('_', '-')}"):
        FaceChoice(**options)
