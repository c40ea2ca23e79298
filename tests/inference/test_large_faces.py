"""Close-ups: faces beyond the largest anchor, and what looking for them leaves alone."""

import cv2
import numpy as np
import pytest

from retinaface_tf import RetinaFace
from retinaface_tf.config import DEFAULT_SETTINGS, RetinaFaceConfig
from retinaface_tf.errors import ConfigError
from retinaface_tf.faces.faces import Faces
from retinaface_tf.geometry.anchors import generate_anchors
from retinaface_tf.inference.large_faces import join_large_faces
from retinaface_tf.inference.preprocess import Prepared, bucket_shape
from retinaface_tf.inference.runtimes.runtime import RawOutputs, Runtime
from retinaface_tf.presets import YUNET


class WhiteSquareRuntime(Runtime):
    """Finds the white square of an image with the anchor that is nearest to it, if any is near.

    As a network does, it answers for faces up to 1.3 times its largest anchor.
    """

    name = "test"
    config = RetinaFaceConfig()

    def __init__(self):
        self.shapes = []

    def input_shape(self, height, width):
        return bucket_shape(height, width)

    def __call__(self, images):
        self.shapes.append(images.shape[1:3])
        anchors = generate_anchors(self.config.levels, *images.shape[1:3])
        scores = np.zeros((len(images), len(anchors)), np.float32)
        deltas = np.zeros((*scores.shape, 14), np.float32)
        for i, image in enumerate(images):
            rows, columns = np.nonzero((image > 200).all(axis=-1))
            if len(rows) and np.ptp(columns) + 1 <= 1.3 * 512:
                side = np.ptp(columns) + 1
                center = columns.min() + side / 2, rows.min() + side / 2
                size = np.abs(np.log(anchors[:, 2] / side))
                near = np.abs(anchors[:, :2] - center).sum(axis=1)
                best = np.lexsort((near, np.round(size, 3)))[0]
                scores[i, best] = 0.9
                deltas[i, best, :2] = (center - anchors[best, :2]) / anchors[best, 2] / 0.1
                deltas[i, best, 2:4] = np.log(side / anchors[best, 2]) / 0.2
        return RawOutputs(scores, deltas[..., :4], deltas[..., 4:])


@pytest.fixture
def runtime():
    return WhiteSquareRuntime()


def square(height, width, x, y, side):
    image = np.zeros((height, width, 3), np.uint8)
    image[y : y + side, x : x + side] = 255
    return image


def test_a_face_beyond_the_largest_anchor_is_found_in_the_copy(runtime):
    image = square(1080, 1920, 400, 40, 1000)
    assert len(RetinaFace(runtime, large_faces=False).detect(image)) == 0
    faces = RetinaFace(runtime).detect(image)
    np.testing.assert_allclose(faces.boxes, [[400, 40, 1400, 1040]], atol=4)
    assert faces.image_size == (1080, 1920)


def test_faces_of_ordinary_size_are_what_they_were(runtime):
    image = square(1080, 1920, 100, 200, 96)
    plain = RetinaFace(runtime, large_faces=False).detect(image)
    faces = RetinaFace(runtime).detect(image)
    np.testing.assert_array_equal(faces.boxes, plain.boxes)
    np.testing.assert_array_equal(faces.scores, plain.scores)


def test_a_face_that_both_searches_find_is_told_once(runtime):
    image = square(1080, 1920, 400, 40, 600)
    assert len(RetinaFace(runtime).detect(image)) == 1


def test_what_lies_inside_a_close_up_is_part_of_it_unless_it_is_surer(runtime):
    def faces(box, score):
        return Faces(np.float32([box]), np.float32([score]), np.zeros((1, 5, 2), "f"), (2000, 2000))

    prepared = Prepared(np.zeros((2000, 2000, 3), np.uint8), (1.0, 1.0), (2000, 2000))
    large = faces([100, 100, 1500, 1500], 0.9)
    for box, score, kept in [
        ([400, 400, 600, 600], 0.8, 1),
        ([400, 400, 600, 600], 0.95, 2),
        ([1400, 400, 1600, 600], 0.8, 2),
    ]:
        joined = join_large_faces(
            faces(box, score), [large], prepared, runtime.config, DEFAULT_SETTINGS
        )
        assert len(joined) == kept


@pytest.mark.parametrize("size, copies", [((480, 640), 0), ((1080, 1920), 1)])
def test_cells_without_anchors_of_chosen_sizes_reach_as_far(runtime, size, copies):
    """One anchor of 32 pixels does not mean that a face of 100 is a close-up."""
    runtime.config = YUNET
    RetinaFace(runtime).detect(np.zeros((*size, 3), np.uint8))
    assert len(runtime.shapes) == 1 + copies
    prepared = Prepared(np.zeros((2000, 2000, 3), np.uint8), (1.0, 1.0), (2000, 2000))
    own, coarse = (
        Faces(np.float32([box]), np.float32([score]), np.zeros((1, 5, 2), "f"), (2000, 2000))
        for box, score in (([100, 100, 300, 300], 0.8), ([90, 90, 310, 310], 0.9))
    )
    joined = join_large_faces(own, [coarse], prepared, YUNET, DEFAULT_SETTINGS)
    np.testing.assert_array_equal(joined.boxes, own.boxes)


def test_huge_images_have_copies_of_copies(runtime):
    image = square(4000, 4000, 100, 100, 3800)
    faces = RetinaFace(runtime).detect(image, size="original")
    np.testing.assert_allclose(faces.boxes, [[100, 100, 3900, 3900]], atol=16)


@pytest.mark.parametrize("size, copies", [((480, 640), 0), ((640, 2000), 0), ((1080, 1920), 1)])
def test_copies_cost_under_a_tenth_and_only_where_they_can_help(runtime, size, copies):
    RetinaFace(runtime).detect(np.zeros((*size, 3), np.uint8))
    assert len(runtime.shapes) == 1 + copies
    own, *others = (rows * columns for rows, columns in runtime.shapes)
    assert all(area <= 0.1 * own for area in others)


def test_a_runtime_of_one_size_makes_no_copies(runtime):
    runtime.input_shape = lambda height, width: (1088, 1920)
    RetinaFace(runtime).detect(np.zeros((1080, 1920, 3), np.uint8))
    assert len(runtime.shapes) == 1


def test_images_of_a_batch_keep_their_own_faces(runtime):
    images = [square(1080, 1080, 20 * i, 20 * i, 900) for i in range(4)]
    images[2:2] = [square(480, 640, 50, 60, 70)]
    answers = RetinaFace(runtime).detect(images)
    assert [round(float(faces.boxes[0, 0])) for faces in answers] == [0, 20, 50, 40, 60]


def test_the_setting_is_a_boolean(runtime):
    with pytest.raises(ConfigError, match="large_faces=1"):
        RetinaFace(runtime, large_faces=1)


def test_the_portrait_filling_the_frame(public_weights, astronaut):
    detector = RetinaFace.from_file(public_weights)
    x1, y1, x2, y2 = detector.detect(astronaut, max_faces=1).boxes[0].astype(int)
    side = max(x2 - x1, y2 - y1)
    face = astronaut[y1 : y1 + side, (x1 + x2 - side) // 2 : (x1 + x2 + side) // 2]
    for pixels in (512, 1080, 2160):
        faces = detector.detect(cv2.resize(face, (pixels, pixels)), size="original")
        width, height = faces.boxes[0, 2:] - faces.boxes[0, :2]
        assert faces.scores[0] > 0.9 and min(width, height) > 0.6 * pixels
        assert len(faces) <= 2
    boxes = detector.detect(
        cv2.resize(face, (2160, 2160)), size="original", large_faces=False
    ).boxes
    assert (boxes[:, 2] - boxes[:, 0]).max(initial=0) < 0.6 * 2160
