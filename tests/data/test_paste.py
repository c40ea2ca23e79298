"""Copy-paste: a face of another image, its box and its points, in a free place of a scene."""

import cv2
import numpy as np
import pytest
import tensorflow as tf

from retinaface_tf.data.augment import Scene
from retinaface_tf.data.options import AugmentConfig
from retinaface_tf.data.paste import MOST, FaceCrops
from retinaface_tf.data.readers.annotation import AnnotatedImage
from retinaface_tf.errors import ConfigError

BOX = np.float32([10, 12, 50, 62])
POINTS = np.float32([[20, 28], [40, 28], [30, 38], [22, 50], [38, 50]])


@pytest.fixture(scope="module")
def crop(tmp_path_factory) -> AnnotatedImage:
    """A red face with a white mark at each point, on black."""
    image = np.zeros((80, 64, 3), np.uint8)
    image[12:62, 10:50] = (0, 0, 255)
    for x, y in POINTS.astype(int):
        image[y - 2 : y + 3, x - 2 : x + 3] = 255
    path = tmp_path_factory.mktemp("crops") / "face.png"
    cv2.imwrite(str(path), image)
    return AnnotatedImage(path, BOX[None], POINTS[None])


def scene(boxes=((5, 5, 60, 90),)) -> Scene:
    boxes = np.float32(boxes).reshape(-1, 4)
    nothing = tf.fill([len(boxes), 5, 2], np.float32("nan"))
    image = tf.fill([160, 160, 3], 100.0)
    return Scene(image, tf.constant(boxes), nothing, tf.zeros([len(boxes)], tf.bool))


def paste(crop, before, seed=(1, 2), **options):
    config = AugmentConfig(paste=1.0, **{"paste_sizes": (20, 40), **options})
    crops = FaceCrops([crop])
    # As a graph, as the pipeline runs it.
    pasted = tf.function(lambda seed: vars(crops.paste(before, seed, config)))
    return Scene(**pasted(tf.constant(seed, tf.int64)))


def test_pasted_faces_lie_where_their_boxes_say_and_nowhere_else(crop):
    before = scene()
    after = paste(crop, before)
    boxes, image = after.boxes.numpy(), after.image.numpy()
    assert 1 < len(boxes) <= 1 + MOST
    np.testing.assert_array_equal(boxes[0], before.boxes[0])
    changed = np.abs(image - 100).max(-1) > 1
    for box, points in zip(boxes[1:], after.landmarks.numpy()[1:]):
        assert 20 <= (box[2:] - box[:2]).max() <= 41
        x, y = (box[:2] + (box[2:] - box[:2]) * (0.5, 0.3)).astype(int)
        assert image[y, x, 0] > image[y, x, 1:].max() + 20, "red between the eyes"
        # The points keep their places in the box.
        np.testing.assert_allclose(
            (points - box[:2]) / (box[2:] - box[:2]),
            (POINTS - BOX[:2]) / (BOX[2:] - BOX[:2]),
            atol=0.01,
        )
        low, high = (
            np.floor(box[:2] - 0.45 * (box[2:] - box[:2])),
            box[2:] + 0.45 * (box[2:] - box[:2]),
        )
        (left, top), (right, bottom) = np.maximum(low, 0).astype(int), np.ceil(high).astype(int)
        changed[top:bottom, left:right] = False
    assert not changed.any()
    for first in range(len(boxes)):
        for second in range(first):
            overlap = np.minimum(boxes[first, 2:], boxes[second, 2:]) - np.maximum(
                boxes[first, :2], boxes[second, :2]
            )
            assert overlap.min() <= 0


def test_nothing_is_pasted_where_no_place_is_free(crop):
    before = scene([(0, 0, 160, 160)])
    after = paste(crop, before)
    assert len(after.boxes) == 1
    np.testing.assert_array_equal(after.image, before.image)


def test_draws_follow_from_the_seed(crop):
    first, same, other = (paste(crop, scene([]), seed) for seed in ((3, 4), (3, 4), (3, 5)))
    np.testing.assert_array_equal(first.image, same.image)
    assert first.boxes.shape != other.boxes.shape or (first.boxes != other.boxes).numpy().any()


def test_a_face_larger_than_the_scene_fills_it(crop):
    after = paste(crop, scene([]), paste_sizes=(400, 500))
    assert len(after.boxes) == 1
    assert after.image.shape == (160, 160, 3)


def test_labels_without_a_face_are_refused(crop):
    with pytest.raises(ConfigError, match="nothing to paste"):
        FaceCrops([AnnotatedImage(crop.path, np.zeros((0, 4), np.float32))])
