"""Test-time augmentation: views map back exactly, votes average, tiles leave nothing uncovered."""

import numpy as np
import pytest

from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.errors import ConfigError, ImageError
from retinaface_tf.faces.faces import Faces
from retinaface_tf.inference.detector import RetinaFace
from retinaface_tf.inference.test_time_augmentation import (
    Augmentation,
    View,
    _to_image,
    detect_augmented,
    flip,
    rotate,
    stream_augmented,
    tiles,
    vote,
)


def marked_image(height=40, width=60):
    """One bright pixel, and the continuous place of its centre."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[7, 22] = 255
    return picture, np.array([22.5, 7.5])


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_pixel_of_a_view_maps_back_to_where_it_came_from(turns, mirrored):
    picture, place = marked_image()
    view = rotate(View(picture, np.eye(2, 3), False, 0), turns)
    view = flip(view) if mirrored else view
    row, column = np.argwhere(view.pixels[..., 0])[0]
    back = view.matrix[:, :2] @ [column + 0.5, row + 0.5] + view.matrix[:, 2]
    np.testing.assert_allclose(back, place)
    assert view.flipped == mirrored
    assert view.rotation == turns


def test_tiles_cover_the_image_and_overlap():
    picture = np.random.default_rng(0).integers(0, 255, (500, 1030, 3), np.uint8)
    seen = np.zeros(picture.shape[:2], int)
    for view in tiles(picture, 256, 0.25):
        x, y = view.matrix[:, 2].astype(int)
        height, width = view.pixels.shape[:2]
        assert (height, width) == (256, 256)
        np.testing.assert_array_equal(view.pixels, picture[y : y + height, x : x + width])
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


def test_a_vote_is_the_mean_weighted_by_score():
    boxes = np.array([[0.0, 0, 10, 10], [2, 0, 12, 10], [50, 50, 60, 60]])
    landmarks = np.zeros((3, 5, 2)) + np.array([0.0, 3.0, 9.0])[:, None, None]
    joined, scores, points = vote(boxes, [0.5, 0.25, 0.9], landmarks)
    np.testing.assert_allclose(joined, [[50, 50, 60, 60], [2 / 3, 0, 32 / 3, 10]])
    np.testing.assert_allclose(scores, [0.9, 0.5])
    np.testing.assert_allclose(points[:, 0, 0], [9, 1])


def test_a_vote_equals_plain_loops(rng):
    corner = rng.uniform(0, 60, (80, 2))
    boxes = np.hstack([corner, corner + rng.uniform(10, 30, (80, 2))])
    scores, landmarks = rng.random(80), rng.random((80, 5, 2))
    joined, best, points = vote(boxes, scores, landmarks, iou_threshold=0.4)
    left = sorted(range(80), key=lambda i: -scores[i])
    expected = []
    while left:
        group = [i for i in left if i == left[0] or overlap(boxes[i], boxes[left[0]]) >= 0.4]
        weight = sum(scores[i] for i in group)
        expected.append(
            (
                sum(scores[i] * boxes[i] for i in group) / weight,
                scores[left[0]],
                sum(scores[i] * landmarks[i] for i in group) / weight,
            )
        )
        left = [i for i in left if i not in group]
    for ours, theirs in zip((joined, best, points), zip(*expected)):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


def overlap(a, b):
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(w, 0) * max(h, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def test_points_of_a_face_found_upside_down_do_not_vote():
    boxes = np.array([[0.0, 0, 10, 10]] * 2)
    landmarks = np.stack([np.zeros((5, 2)), np.full((5, 2), 8.0)])
    _, _, points = vote(boxes, [0.9, 0.8], landmarks, rotation=[0, 2])
    np.testing.assert_array_equal(points[0], np.zeros((5, 2)))


class BrightSpots:
    """A detector whose answer is the bright rectangle of an image, at any size and turn."""

    def __init__(self):
        self.calls = []

    def stream(self, images, *, batch_size, threshold, iou, size, max_faces, large_faces=True):
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
    picture = np.zeros((200, 300, 3), np.uint8)
    picture[40:70, 100:124] = 255
    return picture


def test_all_forms_of_an_image_agree_on_one_face():
    detector = BrightSpots()
    augmentation = Augmentation(
        scales=(100, "original"), flip=True, rotations=(0, 1, 2, 3), tile=150
    )
    faces = detect_augmented(detector, image_with_spot(), augmentation)
    assert len(faces) == 1
    np.testing.assert_allclose(faces.boxes[0], [100, 40, 124, 70], atol=1e-4)
    # Upright and mirrored passes agree on the points.
    np.testing.assert_allclose(faces.landmarks[0, 0], [101, 41], atol=1e-4)
    assert [size for size, _, _ in detector.calls] == [100, "original", "original"]
    assert detector.calls[0][1] == 8
    assert detector.calls[2][1] == 8 * 6


def test_unreadable_images_keep_their_place():
    images = [image_with_spot(), b"no image", image_with_spot()]
    answers = list(stream_augmented(BrightSpots(), images, Augmentation(flip=True), batch_size=2))
    assert [isinstance(a, ImageError) for a in answers] == [False, True, False]


def test_one_view_without_voting_is_the_detector_itself(rng):
    class Runtime:
        name, config = "fixed", RetinaFaceConfig()

        def input_shape(self, height, width):
            return height, width

        def __call__(self, images):
            from retinaface_tf.geometry.anchors import generate_anchors
            from retinaface_tf.inference.runtimes.runtime import RawOutputs

            anchors = len(generate_anchors(self.config.levels, *images.shape[1:3]))
            values = np.random.default_rng(1)
            shape = (len(images), anchors)
            return RawOutputs(
                values.random(shape, np.float32),
                values.normal(0, 1, (*shape, 4)).astype(np.float32),
                values.normal(0, 1, (*shape, 10)).astype(np.float32),
            )

    detector = RetinaFace(Runtime())
    picture = rng.integers(0, 255, (96, 128, 3), np.uint8)
    plain = detector.detect(picture)
    augmented = detect_augmented(detector, picture, Augmentation(vote=False))
    np.testing.assert_allclose(augmented.boxes, plain.boxes, atol=1e-4)
    np.testing.assert_array_equal(augmented.scores, plain.scores)


@pytest.mark.parametrize(
    "options",
    [{"scales": ()}, {"rotations": (4,)}, {"tile": 10}, {"tile_overlap": 1.0}, {"vote_iou": 0}],
)
def test_impossible_augmentations_are_refused(options):
    with pytest.raises(ConfigError):
        Augmentation(**options)


def test_an_enlarged_pass_leaves_large_faces_to_the_smallest_one():
    """The same two faces at every size: wide ones of the enlarged pass are parts of close-ups."""

    class Detector:
        def stream(self, images, size=None, **settings):
            for image in images:
                height, width = image.shape[:2]
                moved = 0 if size == 100 else 5
                boxes = [[moved, 0, moved + 40, 40], [60 + moved, 0, 70 + moved, 10]]
                yield faces_of(boxes, (height, width))

    picture = np.zeros((100, 200, 3), np.uint8)
    forms = Augmentation(scales=(100, 300), vote=False, enlarged_limit=60)
    found = detect_augmented(Detector(), picture, forms, iou=1.0)
    # At 300 the faces are 120 and 30 of its pixels wide.
    assert sorted(found.boxes[:, 0].tolist()) == [0, 60, 65]
    assert (
        len(
            detect_augmented(
                Detector(), picture, Augmentation(scales=(100, 300), vote=False), iou=1.0
            )
        )
        == 4
    )
    with pytest.raises(ConfigError, match="enlarged_limit"):
        Augmentation(enlarged_limit=0)
