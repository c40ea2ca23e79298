"""Sizes and padding before the network."""

import numpy as np
import pytest

from retinaface_tf.config import DetectionSettings
from retinaface_tf.errors import ConfigError, ImageError
from retinaface_tf.inference.preprocess import (
    bucket_shape,
    bucket_side,
    parse_size,
    parse_width_height,
    prepare,
    stack_padded,
    target_size,
)
from retinaface_tf.inference.test_time_augmentation import Augmentation


@pytest.mark.parametrize(
    "height, width, size, expected",
    [
        (480, 640, None, (480, 640)),
        (3000, 4000, None, (1536, 2048)),
        (3000, 4000, "original", (3000, 4000)),
        (480, 640, 960, (960, 1280)),
        (3, 5000, 480, (1, 1440)),
        (768, 1024, (1600, 2150), (1600, 2133)),
        (683, 1024, (1600, 2150), (1434, 2150)),
        (1, 1, None, (1, 1)),
    ],
)
def test_target_size(height, width, size, expected):
    assert target_size(height, width, size) == expected


@pytest.mark.parametrize("size", [0, -3, "big", (1, 2, 3), (0, 5), "12"])
def test_senseless_sizes_are_refused(size):
    with pytest.raises(ConfigError, match="size="):
        target_size(100, 100, size)


def test_an_image_too_large_to_search_names_the_remedy():
    with pytest.raises(ImageError, match="smaller size"):
        target_size(9000, 9000, "original")


@pytest.mark.parametrize(
    "text, size",
    [(None, None), ("original", "original"), ("480", 480), ("1600x2150", (1600, 2150))],
)
def test_size_on_the_command_line(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "0", "480p", "1x2x3", "-5"])
def test_bad_size_on_the_command_line(text):
    with pytest.raises(ConfigError, match="not understood"):
        parse_size(text)


def test_width_and_height_on_the_command_line():
    assert parse_width_height("640x480") == (480, 640) == parse_width_height("640X480")
    for text in ("", "640", "640x", "axb", "0x10", "1x2x3", "-1x2"):
        with pytest.raises(ConfigError, match="WIDTHxHEIGHT"):
            parse_width_height(text)


def test_buckets_hold_the_image_and_are_few():
    sides = np.arange(1, 2049)
    padded = np.array([bucket_side(int(s)) for s in sides])
    assert (padded >= sides).all() and (padded % 32 == 0).all()
    assert (padded <= np.maximum(sides * 1.125 + 1, sides + 31)).all()
    assert len(np.unique(padded)) <= 40
    assert bucket_shape(480, 640) == (480, 640)


def test_scaling_reports_the_factors(rng):
    image = rng.integers(0, 256, (200, 300, 3), dtype=np.uint8)
    prepared = prepare(image, 100)
    assert prepared.pixels.shape == (100, 150, 3)
    assert prepared.scale == (0.5, 0.5) and prepared.original_size == (200, 300)
    assert prepare(image).pixels is image


def test_padding_is_the_mean_pixel(rng):
    image = rng.integers(0, 256, (30, 20, 3), dtype=np.uint8)
    batch = stack_padded([image], (32, 64), (123, 117, 104))
    np.testing.assert_array_equal(batch[0, :30, :20], image)
    assert (batch[0, 30:] == (123, 117, 104)).all() and (batch[0, :, 20:] == (123, 117, 104)).all()


def test_a_short_edge_above_the_longest_side_is_refused():
    with pytest.raises(ConfigError, match="Size 2150x1600 has a short edge of 2150"):
        parse_size("2150x1600")
    for call in (
        lambda: target_size(100, 100, (2150, 1600)),
        lambda: DetectionSettings(size=(2150, 1600)),
        lambda: Augmentation(scales=(500, (2150, 1600))),
    ):
        with pytest.raises(ConfigError, match="short edge of 2150 pixels above the longest side"):
            call()
    assert parse_size("1600x1600") == (1600, 1600)


@pytest.mark.parametrize("size", [640.0, True, "640", b"640", (1, 2, 3), (0, 5), {}, np.float32(2)])
def test_settings_with_a_senseless_size_are_refused_at_once(size):
    with pytest.raises(ConfigError, match="size="):
        DetectionSettings(size=size)


def test_whole_numbers_of_numpy_and_lists_are_sizes():
    for size in (np.int64(960), [960, 2880], (np.int32(960), 2880)):
        assert target_size(480, 640, DetectionSettings(size=size).size) == (960, 1280)
