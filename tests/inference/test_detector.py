"""`RetinaFace` around a runtime whose answers are known: order, batches, errors, settings."""

import io

import numpy as np
import pytest
from PIL import Image

from retinaface_tf import RetinaFace
from retinaface_tf.errors import BatchError, ConfigError, ImageError
from retinaface_tf.inference.preprocess import bucket_shape
from tests.helpers.bright_pixel import BrightPixelRuntime, black_image


@pytest.fixture
def runtime():
    return BrightPixelRuntime()


@pytest.fixture
def detector(runtime):
    return RetinaFace(runtime)


def test_one_image_in_one_answer_out(detector):
    faces = detector.detect(black_image(100, 120, (5, 6)))
    np.testing.assert_array_equal(faces.boxes, [[36, 28, 68, 60]])
    np.testing.assert_array_equal(faces.landmarks[0], [[52, 44]] * 5)
    assert faces.vertices is None and faces.image_size == (100, 120)


def test_a_list_keeps_its_order_whatever_the_sizes(detector, rng):
    sizes = rng.integers(40, 300, (37, 2))
    images = [black_image(h, w, *[(2, 2)] * (i % 2)) for i, (h, w) in enumerate(sizes)]
    answers = detector.detect(images, batch_size=4)
    assert [len(a) for a in answers] == [i % 2 for i in range(37)]
    assert [a.image_size for a in answers] == [tuple(s) for s in sizes]


def test_images_of_one_shape_share_a_batch(detector, runtime):
    detector.detect([black_image(96, 96)] * 10, batch_size=8)
    assert [shape[0] for shape in runtime.shapes] == [8, 2]


def test_large_images_go_in_smaller_batches(detector, runtime):
    detector.detect([black_image(1536, 2048)] * 5, batch_size=8)
    assert max(shape[0] for shape in runtime.shapes if shape[1] >= 1536) == 2


def test_paths_bytes_arrays_and_pil_images_agree(detector, tmp_path):
    image = black_image(90, 70, (3, 3))
    path = tmp_path / "picture.png"
    Image.fromarray(image).save(path)
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    for source in (str(path), path, stream.getvalue(), image, Image.fromarray(image)):
        np.testing.assert_array_equal(detector.detect(source).boxes, [[12, 12, 44, 44]])


def test_one_bad_image_costs_only_its_own_answer(detector):
    images = [black_image(64, 64, (2, 2)), b"not an image", black_image(64, 64)]
    answers = detector.detect(images, on_error="return")
    assert len(answers[0]) == 1 and isinstance(answers[1], ImageError) and len(answers[2]) == 0
    with pytest.raises(BatchError, match="1 of 3") as caught:
        detector.detect(images)
    assert len(caught.value.results[0]) == 1
    with pytest.raises(ImageError):
        detector.detect(b"not an image")


def test_streams_are_lazy_and_bounded(detector):
    drawn = 0

    def sources():
        nonlocal drawn
        while True:
            drawn += 1
            yield black_image(64, 64, (2, 2))

    answers = detector.stream(sources(), batch_size=2)
    assert len(next(answers)) == 1
    assert drawn <= 16


def test_the_more_sizes_the_further_it_reads_ahead(detector):
    asked = []

    def sources(sizes):
        while True:
            asked.append(None)
            yield black_image(64, 64 + len(asked) % sizes, (2, 2))

    ahead = {}
    for sizes in (1, 6, 100):
        asked.clear()
        answers = detector.stream(sources(sizes), batch_size=2)
        ahead[sizes] = max(len(asked) - answered for answered, _ in zip(range(200), answers))
    # Two windows of batches of 2: the one that is answered and the next.
    assert ahead == {1: 2 * 4 * 2, 6: 2 * 6 * 2, 100: 2 * 8 * 2}


def test_settings_of_a_call_override_the_defaults(detector):
    image = black_image(100, 300, (5, 6), (5, 20), (5, 30))
    assert len(detector.detect(image)) == 3
    assert len(detector.detect(image, max_faces=2)) == 2
    assert len(detector.detect(image, threshold=0.95)) == 0


@pytest.mark.parametrize("size, searched", [(None, (100, 300)), (200, (200, 600)), (50, (50, 150))])
def test_the_size_is_what_the_network_sees(detector, runtime, size, searched):
    assert detector.detect(black_image(100, 300), size=size).image_size == (100, 300)
    assert runtime.shapes == [(1, *bucket_shape(*searched), 3)]


def test_empty_list(detector):
    assert detector.detect([]) == []


def test_a_name_is_no_runtime():
    with pytest.raises(ConfigError, match="from_preset takes a preset"):
        RetinaFace("lite")


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"threshold": 1.5}, "threshold=1.5"),
        ({"threshold": "high"}, "threshold='high'"),
        ({"iou": -1}, "iou=-1"),
        ({"max_faces": 0}, "max_faces=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"colour": 1}, "colour"),
    ],
)
def test_senseless_settings_are_refused(detector, settings, message):
    with pytest.raises(ConfigError, match=message):
        detector.detect([black_image(64, 64)], **settings)
