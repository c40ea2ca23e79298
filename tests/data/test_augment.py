"""Augmentation: faces move with their pixels, and every draw follows from its seed."""

import cv2
import numpy as np
import pytest
import tensorflow as tf

from retinaface_tf.data import augment
from retinaface_tf.data.augment import Scene, load_and_augment
from retinaface_tf.data.options import AugmentConfig
from retinaface_tf.errors import ConfigError

POINTS = np.float32([[40, 30], [60, 30], [50, 42], [42, 54], [58, 54]]) + 0.5
BOX = np.float32([30, 20, 70, 64])
# One colour a landmark, far apart.
COLORS = np.uint8([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [255, 0, 255]])


def marked_image(width=120, height=90) -> np.ndarray:
    """A grey image with a coloured 5x5 square around each of `POINTS`."""
    image = np.full((height, width, 3), 128, np.uint8)
    for (x, y), color in zip(POINTS.astype(int), COLORS):
        image[y - 2 : y + 3, x - 2 : x + 3] = color
    return image


def where(image: np.ndarray, color) -> np.ndarray:
    """Centre x, y of the pixels near a colour."""
    rows, columns = np.nonzero(np.abs(image.astype(int) - color).max(-1) < 90)
    return np.array([columns.mean() + 0.5, rows.mean() + 0.5])


def scene(image=None) -> Scene:
    image = marked_image() if image is None else image
    boxes = tf.constant(BOX[None])
    return Scene(tf.constant(image), boxes, tf.constant(POINTS[None]), tf.constant([False]))


def test_flip_moves_pixels_and_swaps_left_and_right():
    flipped = augment.flip(scene())
    points = flipped.landmarks.numpy()[0]
    # What was the right eye is now the image's left eye.
    for place, color in enumerate(COLORS[[1, 0, 2, 4, 3]]):
        np.testing.assert_allclose(where(flipped.image.numpy(), color), points[place], atol=1)
    np.testing.assert_allclose(flipped.boxes.numpy()[0], [120 - 70, 20, 120 - 30, 64])
    again = augment.flip(flipped)
    np.testing.assert_allclose(again.landmarks.numpy()[0], POINTS)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_turning_moves_points_with_their_pixels(turns):
    turned = augment.rotate(scene(marked_image(90, 90)), tf.constant(turns))
    for place, color in enumerate(COLORS):
        found = where(turned.image.numpy(), color)
        np.testing.assert_allclose(found, turned.landmarks.numpy()[0, place], atol=1)
    box, points = turned.boxes.numpy()[0], turned.landmarks.numpy()[0]
    assert (points > box[:2]).all() and (points < box[2:]).all()
    assert sorted(box[2:] - box[:2]) == [40, 44]


@pytest.mark.parametrize("scale", [(0.5, 1.0), (1.0, 1.0), (1.3, 2.0)])
def test_crops_keep_points_on_their_pixels(scale):
    config = AugmentConfig(crop_scale=scale, flip=0, photometric=0)
    encoded = tf.io.encode_png(marked_image())
    seen = 0
    for seed in range(12):
        result = load_and_augment(
            encoded, BOX[None], POINTS[None], np.array([False]), tf.constant([seed, 5]), 160, config
        )
        image = result.image.numpy()
        for point, color in zip(result.landmarks.numpy()[0], COLORS):
            if (point > 8).all() and (point < 152).all():
                np.testing.assert_allclose(where(image, color), point, atol=1.5)
                seen += 1
    assert seen > 30


def test_a_box_stays_and_is_clipped_when_its_centre_is_inside():
    boxes = tf.constant([[0.0, 0, 20, 20], [5, 5, 40, 40], [90, 90, 130, 130], [60, 60, 95, 95]])
    points = tf.zeros((4, 5, 2))
    moved = augment.move_faces(
        Scene(None, boxes, points, tf.zeros(4, tf.bool)), tf.constant([20.0, 20.0, 80.0]), 160
    )
    np.testing.assert_allclose(moved.boxes.numpy(), [[0, 0, 40, 40], [80, 80, 150, 150]])


def test_crops_have_the_configured_side_and_look_for_faces():
    shape, face = tf.constant([200, 300]), tf.constant([[250.0, 150, 260, 160]])
    for seed in range(40):
        x, y, side = augment.choose_crop(shape, face, tf.constant([seed, 1]), (0.3, 1.0)).numpy()
        assert 60 <= side <= 200 and 0 <= x <= 300 - side and 0 <= y <= 200 - side
        assert x <= 255 < x + side and y <= 155 < y + side
    sides = [
        augment.choose_crop(shape, face[:0], tf.constant([s, 2]), (1.5, 2.0)).numpy()
        for s in range(20)
    ]
    for x, y, side in sides:
        assert 300 <= side <= 400 and x <= 0 and x + side >= 300 and y <= 0 and y + side >= 200


def test_small_faces_are_ignored_and_the_seed_decides_everything():
    config = AugmentConfig(rotate=0.5, min_face_size=50, crop_scale=(0.9, 1.0))
    boxes = np.float32([BOX, [70, 60, 76, 66]])
    arguments = (
        tf.io.encode_jpeg(marked_image()),
        boxes,
        np.full((2, 5, 2), np.nan, np.float32),
        np.array([False, False]),
    )
    first, again, other = (
        load_and_augment(*arguments, tf.constant([s, 3]), 160, config) for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.image, again.image)
    assert (first.image.numpy() != other.image.numpy()).any()
    assert first.ignored.numpy().tolist() == [False, True]


def test_photometric_distortion_stays_in_range(rng):
    image = tf.constant(rng.uniform(0, 255, (32, 32, 3)).astype(np.float32))
    results = [
        augment.random_photometric(image, tf.constant([s, 0]), 1.0).numpy() for s in range(8)
    ]
    assert all(r.min() >= 0 and r.max() <= 255 for r in results)
    assert len({r.mean().round(3) for r in results}) == 8


def test_impossible_options_are_refused():
    with pytest.raises(ConfigError, match="crop_scale"):
        AugmentConfig(crop_scale=(1.0, 0.5))


def test_a_crop_for_a_face_holds_it_at_sizes_of_every_octave():
    shape = tf.constant([300, 500])
    boxes = tf.constant([[100.0, 80, 130, 120], [350, 200, 430, 290], [0, 0, 9, 12]])
    ignored = tf.constant([False, False, True])
    octaves, seen = np.zeros(5, int), set()
    for number in range(300):
        window = augment.choose_face_crop(
            shape, boxes, ignored, tf.constant([number, 3]), (8, 256), 320
        ).numpy()
        left, top, side = window
        assert (window == np.floor(window)).all() and 320 / 4 <= side <= 600
        # Beyond the image only where the window is larger than it.
        assert min(0, 500 - side) <= left <= max(0, 500 - side)
        assert min(0, 300 - side) <= top <= max(0, 300 - side)
        inside = [
            (left <= x1 + 1) & (top <= y1 + 1) & (x2 <= left + side + 1) & (y2 <= top + side + 1)
            for x1, y1, x2, y2 in boxes.numpy()[:2]
        ]
        assert any(inside)
        # A face of 40 or 90 pixels can become 22 to 160 or 48 to 256.
        seen |= {n for n, whole in enumerate(inside) if whole}
        if inside[1] and not inside[0]:
            octaves[int(np.log2(90 * 320 / side)) - 4] += 1
    assert seen == {0, 1}
    assert (octaves[2:4] > 15).all()


def test_images_without_a_face_are_cropped_as_ever(astronaut):
    encoded = tf.io.encode_jpeg(astronaut)
    none = tf.zeros([0, 4]), tf.zeros([0, 5, 2]), tf.zeros([0], tf.bool)
    plain, sampled = (
        augment.load_and_augment(
            encoded, *none, tf.constant([1, 2]), 64, AugmentConfig(face_sampling=share)
        )
        for share in (0.0, 1.0)
    )
    np.testing.assert_array_equal(plain.image, sampled.image)


def test_shrunk_images_are_averaged_as_at_inference():
    """Stripes of one pixel become grey, they do not turn into wider stripes."""
    stripes = np.zeros((400, 400, 3), np.uint8)
    stripes[:, ::2] = 255
    config = AugmentConfig(crop_scale=(1.0, 1.0), flip=0, photometric=0)
    none = np.zeros((0, 4), np.float32), np.zeros((0, 5, 2), np.float32), np.zeros(0, bool)
    result = load_and_augment(
        tf.io.encode_png(stripes), *none, tf.constant([0, 0]), 96, config
    ).image.numpy()
    expected = cv2.resize(stripes, (96, 96), interpolation=cv2.INTER_AREA)
    assert np.abs(result[4:-4, 4:-4].astype(float) - expected[4:-4, 4:-4]).max() < 30


def test_degradation_keeps_shape_and_range_and_follows_from_its_seed():
    image = tf.constant(np.random.default_rng(0).uniform(0, 255, (48, 64, 3)), tf.float32)
    results = []
    for seed in range(12):
        degraded = augment.random_degradation(image, tf.constant([seed, 1]), 0.5)
        again = augment.random_degradation(image, tf.constant([seed, 1]), 0.5)
        assert degraded.shape == (48, 64, 3)
        np.testing.assert_array_equal(degraded, again)
        assert degraded.numpy().min() >= 0 and degraded.numpy().max() <= 255
        results.append(degraded.numpy())
    assert len({r.tobytes() for r in results}) > 6
    grey = [r for r in results if np.ptp(r, axis=2).max() < 1e-3]
    dark = [r for r in results if r.mean() < 90]
    assert 2 < len(grey) < 10 and 2 < len(dark) < 10
    untouched = augment.random_degradation(image, tf.constant([1, 1]), 0.0)
    np.testing.assert_array_equal(untouched, image)
