"""Drawn faces: the same for the same seed, and labels that lie on what was drawn."""

import numpy as np
import pytest

from retinaface_tf.data.options import SyntheticConfig
from retinaface_tf.data.synthetic import scene
from retinaface_tf.data.synthetic.head_mesh import draw_person, draw_view, rotation
from retinaface_tf.data.synthetic.scene import draw_image, draw_images
from retinaface_tf.errors import ConfigError

CONFIG = SyntheticConfig(size=128, seed=5)


def test_images_follow_from_seed_and_number():
    first, again, other = draw_image(CONFIG, 4), draw_image(CONFIG, 4), draw_image(CONFIG, 5)
    np.testing.assert_array_equal(first.pixels, again.pixels)
    np.testing.assert_array_equal(first.boxes, again.boxes)
    assert (first.pixels != other.pixels).any()
    encoded, label = next(draw_images(CONFIG, 4, 1))
    assert encoded[:3] == b"\xff\xd8\xff"
    np.testing.assert_array_equal(label.boxes, first.boxes)


def test_whoever_stops_early_does_not_wait_for_the_rest(monkeypatch):
    calls = []

    class Pool(scene.ProcessPoolExecutor):
        def submit(self, *args, **options):
            calls.append(super().submit(*args, **options))
            return calls[-1]

    monkeypatch.setattr(scene, "ProcessPoolExecutor", Pool)
    images = draw_images(CONFIG, 0, 1600, processes=2)
    next(images)
    images.close()
    assert sum(call.cancelled() for call in calls) > len(calls) / 2


def test_labels_are_inside_and_of_every_size():
    images = [draw_image(CONFIG, index) for index in range(30)]
    counts = [len(image.boxes) for image in images]
    assert min(counts) == 0 and max(counts) >= 6
    boxes = np.concatenate([image.boxes for image in images])
    sides = (boxes[:, 2:] - boxes[:, :2]).max(1)
    assert boxes.min() >= 0 and boxes.max() <= 128
    assert (sides < 20).any() and (sides > 70).any()
    assert all(np.isfinite(image.landmarks).all() for image in images)


def test_landmarks_are_those_of_the_posed_head(rng):
    """Seen from the front the eyes are level and left of right; a turn moves the nose sideways."""
    light = np.array([0.0, 0.0, 1.0])
    head = draw_person(rng, 120)
    front, turned, rolled = (
        draw_view(head, rotation(*angles), light, 0.5, np.ones(3), 120)
        for angles in ((0, 0, 0), (0.6, 0, 0), (0, 0, np.pi / 2))
    )
    left, right, nose, mouth_left, mouth_right = front.landmarks
    assert left[0] < nose[0] < right[0] and mouth_left[0] < mouth_right[0]
    assert abs(left[1] - right[1]) < 1 and max(left[1], right[1]) < nose[1] < mouth_left[1]
    middle = turned.landmarks[:2].mean(0)
    assert turned.landmarks[2][0] - middle[0] > 4
    # A quarter turn with the clock: what was left is up.
    assert rolled.landmarks[0][1] < rolled.landmarks[1][1] - 10
    for view in (front, turned, rolled):
        inside = (view.landmarks > view.box[:2] - 2) & (view.landmarks < view.box[2:] + 2)
        assert inside.all()
        x, y = np.int32(view.landmarks[2])
        assert view.alpha[y, x] == 1


def test_impossible_options_are_refused():
    with pytest.raises(ConfigError, match="64"):
        SyntheticConfig(size=10)
