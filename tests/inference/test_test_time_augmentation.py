"""Test-time augmentation: views map back exactly, votes average, tiles leave nothing uncovered."""

import dataclasses

import numpy as np
import pytest

from retinaface_tf.config import DEFAULT_SETTINGS, RetinaFaceConfig
from retinaface_tf.errors import ConfigError, ImageError
from retinaface_tf.faces.faces import Faces
from retinaface_tf.geometry.anchors import generate_anchors
from retinaface_tf.inference.detector import RetinaFace
from retinaface_tf.inference.runtimes.runtime import RawOutputs, Runtime
from retinaface_tf.inference.test_time_augmentation import (
    Augmentation,
    AugmentedDetector,
    View,
    _to_image,
    flip,
    rotate,
    tiles,
)


def marked_image(height=40, width=60):
    """One bright pixel, and the continuous place of its centre."""
    image = np.zeros((height, width, 3), np.uint8)
    image[7, 22] = 255
    return image, np.array([22.5, 7.5])


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_pixel_of_a_view_maps_back_to_where_it_came_from(turns, mirrored):
    image, place = marked_image()
    view = rotate(View(image, np.eye(2, 3), False, 0), turns)
    view = flip(view) if mirrored else view
    row, column = np.argwhere(view.pixels[..., 0])[0]
    back = view.matrix[:, :2] @ [column + 0.5, row + 0.5] + view.matrix[:, 2]
    np.testing.assert_allclose(back, place)
    assert view.flipped == mirrored
    assert view.rotation == turns


def test_tiles_cover_the_image_and_overlap():
    image = np.random.default_rng(0).integers(0, 255, (500, 1030, 3), np.uint8)
    seen = np.zeros(image.shape[:2], int)
    for view in tiles(image, 256, 0.25):
        x, y = view.matrix[:, 2].astype(int)
        height, width = view.pixels.shape[:2]
        assert (height, width) == (256, 256)
        np.testing.assert_array_equal(view.pixels, image[y : y + height, x : x + width])
        seen[y : y + height, x : x + width] += 1
        assert view.cut == (x > 0, y > 0, x + width < 1030, y + height < 500)
    assert seen.min() == 1
    assert (seen > 1).any()


def faces_of(boxes, size=(40, 60)):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    left, top, right, bottom = boxes.T
    x = np.stack([left + 1, right - 1, (left + right) / 2, left + 2, right - 2], axis=1)
    y = np.stack([top + 1, top + 1, (top + bottom) / 2, bottom - 1, bottom - 1], axis=1)
    scores = np.linspace(0.9, 0.5, len(boxes)).astype(np.float32)
    return Faces(boxes, scores, np.stack([x, y], axis=-1), size)


def test_points_found_in_the_mirror_are_named_as_in_the_image():
    view = flip(View(np.zeros((40, 60, 3), np.uint8), np.eye(2, 3), False, 0))
    found = _to_image(faces_of([[10, 5, 30, 25]]), view)
    np.testing.assert_allclose(found.boxes, [[30, 5, 50, 25]])
    left_eye, right_eye = found.landmarks[0, :2]
    assert left_eye[0] == 31 and right_eye[0] == 49


def test_faces_cut_by_a_tile_are_left_to_its_neighbour():
    cut = (True, False, False, True)
    view = View(np.zeros((40, 60, 3), np.uint8), np.eye(2, 3), False, 0, cut)
    boxes = [[0, 5, 20, 25], [30, 0, 50, 20], [40, 10, 60, 30], [10, 20, 30, 40]]
    found = _to_image(faces_of(boxes), view)
    np.testing.assert_allclose(found.boxes, boxes[1:3])


class BrightSpots:
    """A detector whose answer is the bright rectangle of an image, at any size and turn."""

    settings, backend = DEFAULT_SETTINGS, None

    def __init__(self):
        self.calls = []

    def stream(self, images, *, batch_size, threshold, iou, size, max_faces, large_faces, zoom):
        images = list(images)
        self.calls.append((size, len(images), batch_size))
        for image in images:
            rows, columns = np.nonzero(image[..., 0] > 128)
            size_of = image.shape[:2]
            if not len(rows):
                yield Faces.empty(size_of)
                continue
            box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            yield faces_of([box], size_of)


def image_with_spot():
    image = np.zeros((200, 300, 3), np.uint8)
    image[40:70, 100:124] = 255
    return image


def test_all_views_of_an_image_agree_on_one_face():
    detector = BrightSpots()
    augmentation = Augmentation(
        scales=(100, "original"), flip=True, rotations=(0, 1, 2, 3), tile=150
    )
    faces = AugmentedDetector(detector, augmentation).detect(image_with_spot())
    assert len(faces) == 1
    np.testing.assert_allclose(faces.boxes[0], [100, 40, 124, 70], atol=1e-4)
    # Upright and mirrored passes agree on the points.
    np.testing.assert_allclose(faces.landmarks[0, 0], [101, 41], atol=1e-4)
    assert [size for size, _, _ in detector.calls] == [100, "original", "original"]
    assert detector.calls[0][1] == 8
    assert detector.calls[2][1] == 8 * 6


def test_unreadable_images_keep_their_place():
    images = [image_with_spot(), b"no image", image_with_spot()]
    answers = list(
        AugmentedDetector(BrightSpots(), Augmentation(flip=True)).stream(images, batch_size=2)
    )
    assert [isinstance(a, ImageError) for a in answers] == [False, True, False]


def test_one_view_without_voting_is_the_detector_itself(rng):
    class Random(Runtime):
        name, config = "fixed", RetinaFaceConfig()

        def input_shape(self, height, width):
            return height, width

        def __call__(self, images):
            anchors = len(generate_anchors(self.config.levels, *images.shape[1:3]))
            values = np.random.default_rng(1)
            shape = (len(images), anchors)
            return RawOutputs(
                values.random(shape, np.float32),
                values.normal(0, 1, (*shape, 4)).astype(np.float32),
                values.normal(0, 1, (*shape, 10)).astype(np.float32),
            )

    detector = RetinaFace(Random(), zoom="off")
    image = rng.integers(0, 255, (96, 128, 3), np.uint8)
    plain = detector.detect(image)
    augmented = AugmentedDetector(detector, Augmentation(vote=False)).detect(image)
    np.testing.assert_allclose(augmented.boxes, plain.boxes, atol=1e-4)
    np.testing.assert_array_equal(augmented.scores, plain.scores)


@pytest.mark.parametrize(
    "options",
    [
        {"scales": ()},
        {"rotations": (4,)},
        {"tile": 10},
        {"tile_overlap": 1.0},
        {"vote_iou": 0},
        {"agree": True, "tile": 100},
        {"agree": True, "vote": False},
    ],
)
def test_impossible_augmentations_are_refused(options):
    with pytest.raises(ConfigError):
        Augmentation(**options)


def test_an_enlarged_pass_leaves_large_faces_to_the_smallest_one():
    """The same two faces at every size: wide ones of the enlarged pass are parts of close-ups."""

    class Detector:
        settings, backend = DEFAULT_SETTINGS, None

        def stream(self, images, size=None, **settings):
            for image in images:
                height, width = image.shape[:2]
                moved = 0 if size == 100 else 5
                boxes = [[moved, 0, moved + 40, 40], [60 + moved, 0, 70 + moved, 10]]
                yield faces_of(boxes, (height, width))

    image = np.zeros((100, 200, 3), np.uint8)
    views = Augmentation(scales=(100, 300), vote=False, enlarged_limit=60)
    found = AugmentedDetector(Detector(), views, iou=1.0).detect(image)
    # At 300 the faces are 120 and 30 of its pixels wide.
    assert sorted(found.boxes[:, 0].tolist()) == [0, 60, 65]
    every = Augmentation(scales=(100, 300), vote=False)
    assert len(AugmentedDetector(Detector(), every, iou=1.0).detect(image)) == 4
    with pytest.raises(ConfigError, match="enlarged_limit"):
        Augmentation(enlarged_limit=0)


def test_views_that_have_to_agree_outvote_one_that_is_sure():
    class Detector:
        settings, backend = DEFAULT_SETTINGS, None

        def stream(self, images, size=None, threshold=0.0, **settings):
            assert threshold == pytest.approx(0.4 * 0.3)
            for image in images:
                boxes = [[0, 0, 10, 10]] if size == 100 else [[0, 0, 10, 10], [50, 50, 80, 80]]
                faces = faces_of(boxes, image.shape[:2])
                yield dataclasses.replace(faces, scores=np.float32([0.35, 0.5][: len(boxes)]))

    views = Augmentation(scales=(100, 150), agree=True)
    image = np.zeros((100, 200, 3), np.uint8)
    found = AugmentedDetector(Detector(), views, threshold=0.3).detect(image)
    assert found.boxes.tolist() == [[0, 0, 10, 10]] and found.scores == pytest.approx([0.35])
