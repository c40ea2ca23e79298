"""Closer looks: small faces are found where the first look is unsure, and nothing else changes."""

from types import SimpleNamespace

import numpy as np
import pytest

from retinaface_tf import RetinaFace
from retinaface_tf.config import DetectionSettings
from retinaface_tf.errors import ConfigError
from retinaface_tf.faces.faces import Faces
from retinaface_tf.inference import zoom
from retinaface_tf.inference.preprocess import Prepared, bucket_shape, prepare, resized
from tests.helpers.squares import SquaresRuntime, squares


@pytest.fixture
def runtime():
    return SquaresRuntime()


def tiles_of(runtime):
    """How many tiles were searched: the first call is the image's own."""
    return sum(shape[0] for shape in runtime.shapes[1:])


def test_an_unsure_small_face_is_found_sure_and_once(runtime):
    image = squares(480, 640, (100, 200, 10), (400, 100, 40))
    assert RetinaFace(runtime, zoom="off").detect(image).scores.tolist() == pytest.approx([0.9])
    runtime.shapes.clear()
    faces = RetinaFace(runtime, zoom="auto").detect(image, threshold=0.1)
    assert faces.scores.tolist() == pytest.approx([0.9, 0.9])
    by_left = faces.boxes[np.argsort(faces.boxes[:, 0])]
    np.testing.assert_allclose(by_left, [[100, 200, 110, 210], [400, 100, 440, 140]], atol=0.6)
    assert runtime.shapes[1:] == [(1, zoom.TILE, zoom.TILE)]


@pytest.mark.parametrize("side", [14, 40])
def test_nothing_is_spent_where_the_first_look_is_sure(runtime, side):
    image = squares(480, 640, (100, 200, side))
    faces = RetinaFace(runtime, zoom="auto").detect(image)
    assert tiles_of(runtime) == 0
    assert faces == RetinaFace(runtime, zoom="off").detect(image)


def test_neighbours_below_the_first_looks_reach_are_found_beside_a_candidate(runtime):
    image = squares(480, 640, (100, 200, 10), (130, 200, 5), (600, 20, 5))
    assert RetinaFace(runtime, zoom="auto").detect(image, threshold=0.1).boxes[
        :, 0
    ].round() == pytest.approx([100, 130])


def test_a_large_photo_is_seen_in_its_own_pixels(runtime):
    """Shrunk to 2048 pixels its square has 12."""
    image = squares(3000, 4096, (2001, 1501, 24))
    assert len(RetinaFace(runtime, zoom="off").detect(image)) == 0
    (face,) = RetinaFace(runtime, zoom="auto").detect(image)
    np.testing.assert_allclose(face.box, [2001, 1501, 2025, 1525], atol=0.1)


def test_the_first_look_at_a_huge_photo_is_a_quarter_of_it():
    """Shrunk to 2048 pixels its square would have 4, which is too few for a candidate."""
    runtime = SquaresRuntime(blind=6)
    image = squares(1000, 12000, (8000, 500, 24))
    (face,) = RetinaFace(runtime, zoom="auto").detect(image)
    np.testing.assert_allclose(face.box, [8000, 500, 8024, 524], atol=0.5)
    assert runtime.shapes[0] == (1, *bucket_shape(250, 3000))
    for settings in ({"zoom": "off"}, {"size": (2048, 2048)}):  # what is said is kept
        assert len(RetinaFace(runtime, **{"zoom": "auto", **settings}).detect(image)) == 0


def test_photos_with_more_pixels_are_looked_at_in_steps(runtime):
    photo = np.zeros((2400, 3200, 3), np.uint8)
    image = prepare(photo, (600, 800))._replace(photo=photo)
    assert zoom.magnifications(image, "auto") == [2, 4]
    assert zoom.magnifications(image, 2) == [2]
    assert zoom.magnifications(image, 5) == [2, 4, 5]
    assert zoom.magnifications(image, "off") == []
    assert zoom.magnifications(prepare(photo), "auto") == []
    small = prepare(photo)._replace(photo=photo[::2, ::2])
    assert zoom.magnifications(small, "auto") == [2]


def test_a_second_step_follows_what_the_first_was_unsure_of():
    runtime = SquaresRuntime(blind=3)
    image = squares(480, 640, (100, 200, 4))
    assert len(RetinaFace(runtime, zoom=2).detect(image)) == 0  # 8 pixels: unsure
    assert len(RetinaFace(runtime, zoom=4).detect(image)) == 1


def test_the_budget_bounds_the_tiles_of_each_image(runtime):
    places = [(x, y, 8) for x in range(20, 1000, 150) for y in range(20, 600, 150)]
    images = [squares(600, 1000, *places), squares(600, 1000, (20, 20, 8))]
    detector = RetinaFace(runtime, zoom="auto")
    for budget, tiles in ((0, 0), (3, 4), (999, 29)):
        runtime.shapes.clear()
        counts = [len(faces) for faces in detector.detect(images, budget=budget)]
        assert tiles_of(runtime) == tiles and counts[1] == (budget > 0)
    assert counts[0] == len(places)


def test_a_time_is_turned_into_tiles_by_the_first_looks(runtime, monkeypatch):
    """640x512 pixels, 6.5 tiles of 224x224, took 10 ms: 9 ms are 5."""
    clock = SimpleNamespace(perf_counter=iter([1.0, 1.01]).__next__)
    monkeypatch.setattr("retinaface_tf.inference.backend.time", clock)
    places = [(x, y, 8) for x in range(20, 640, 150) for y in range(20, 512, 150)]
    RetinaFace(runtime, zoom="auto").detect(squares(512, 640, *places), budget="9ms")
    assert tiles_of(runtime) == 5


def test_answers_do_not_depend_on_the_batch_or_the_threshold(runtime):
    images = [
        squares(480, 640, (100, 200, 10), (300, 300, 8), (310, 100, 30)),
        squares(480, 640),
        squares(600, 400, (20, 500, 9)),
    ]
    detector = RetinaFace(runtime, zoom="auto")
    together = detector.detect(images)
    for faces, image in zip(together, images):
        assert detector.detect(image) == faces
        low = detector.detect(image, threshold=0.02)
        assert low[low.scores >= 0.5] == faces
    assert [len(faces) for faces in together] == [3, 0, 1]
    assert len(detector.detect(images[0], max_faces=2)) == 2


def test_a_network_of_one_shape_looks_closer_in_that_shape(runtime):
    runtime.fixed_shape = (240, 320)
    runtime.input_shape = lambda height, width: (240, 320)
    photo = squares(960, 1280, (800, 700, 30))
    assert len(RetinaFace(runtime, zoom="off").detect(photo)) == 0
    (face,) = RetinaFace(runtime, zoom="auto").detect(photo)
    np.testing.assert_allclose(face.box, [800, 700, 830, 730], atol=1.5)
    assert {shape[1:] for shape in runtime.shapes} == {(240, 320)}


def faces_at(*rows, size=(400, 400)):
    """Of (x1, y1, x2, y2, score)."""
    rows = np.array(rows, np.float32).reshape(-1, 5)
    return Faces(rows[:, :4], rows[:, 4], np.zeros((len(rows), 5, 2), np.float32), size)


def join(before, *closer):
    image = Prepared(np.zeros((400, 400, 3), np.uint8), (1.0, 1.0), (400, 400))
    parts = np.array([[100, 100, 356, 356], [356, 356, 612, 612]])[: len(closer)]
    return zoom.join_tiles(before, closer, parts, image, 2.0, (256, 256), 0.4)


def test_a_tile_replaces_what_it_sees_whole():
    """In the image's pixels the tile reaches from 50 to 178."""
    before = faces_at((60, 60, 70, 70, 0.6), (20, 20, 30, 30, 0.5), (100, 60, 172, 132, 0.4))
    joined = join(before, faces_at((61, 60, 71, 70, 0.2)))
    assert joined.scores.tolist() == pytest.approx([0.5, 0.4, 0.2])  # too large for it is left


def test_a_face_that_its_tile_does_not_find_keeps_half_its_score():
    joined = join(faces_at((60, 60, 70, 70, 0.6)), faces_at((90, 90, 99, 99, 0.7)))
    np.testing.assert_allclose(joined.scores, [0.7, 0.3])


def test_faces_cut_by_a_tile_are_left_to_the_look_before():
    before = faces_at((46, 80, 56, 90, 0.3))
    joined = join(before, faces_at((50, 80, 56, 90, 0.95), (100, 100, 176, 176, 0.9)))
    np.testing.assert_allclose(joined.scores, [0.3])


def test_overlapping_tiles_tell_a_face_once():
    joined = join(
        faces_at(), faces_at((150, 150, 160, 160, 0.9)), faces_at((190, 190, 200, 200, 0.8))
    )
    assert len(joined) == 2
    twice = faces_at((185, 185, 195, 195, 0.7))
    assert len(join(faces_at(), twice[:0], zoom.suppressed([twice, twice], 0.4))) == 1


def test_a_view_says_where_it_was_cut_out():
    photo = np.arange(300 * 400 * 3, dtype=np.int64).reshape(300, 400, 3).astype(np.uint8)
    image = prepare(photo, (150, 200))._replace(photo=photo)
    seen = zoom.view(image, 2.0, np.array([100, 40, 228, 168]))
    np.testing.assert_array_equal(seen.pixels, photo[40:168, 100:228])
    assert seen.scale == (1.0, 1.0) and seen.origin == (100.0, 40.0)


def test_a_face_lost_in_a_video_is_looked_for_where_it_was(runtime):
    shown, lost = squares(480, 640, (100, 200, 10)), squares(480, 640, (101, 200, 5))
    assert len(RetinaFace(runtime, zoom="auto").detect(lost)) == 0
    detect = RetinaFace(runtime, zoom="auto").for_video(threshold=0.25)
    assert [len(detect(frame)) for frame in (lost, shown, lost, lost)] == [0, 1, 1, 1]
    empty = squares(480, 640)
    assert len(detect(empty)) == 0
    for _ in range(4):
        detect(empty)
    runtime.shapes.clear()
    detect(empty)
    assert tiles_of(runtime) == 0  # it is forgotten


def test_keras_finds_closer_what_litert_finds(tf, astronaut):
    image = np.full((240, 320, 3), (90, 110, 140), np.uint8)
    for x, side in ((30, 14), (120, 18), (220, 22)):
        image[60 : 60 + side, x : x + side] = resized(astronaut[10:230, 110:330], side, side)
    first, second = (
        RetinaFace.from_preset("lite", runtime=name, zoom="auto", threshold=0.3)
        for name in ("litert", "keras")
    )
    faces, same = first.detect(image), second.detect(image)
    assert faces != first.detect(image, zoom="off")
    np.testing.assert_allclose(same.scores, faces.scores, atol=1e-3)
    np.testing.assert_allclose(same.boxes, faces.boxes, atol=0.05)


@pytest.mark.parametrize("zoom, budget", [(1, 2), (17, 2), (True, 2), ("on", 2), (2.5, 2)])
def test_zoom_is_auto_off_or_a_whole_number(zoom, budget):
    with pytest.raises(ConfigError, match=r"zoom=.* must be 'auto', 'off' or a whole number"):
        DetectionSettings(zoom=zoom, budget=budget)


@pytest.mark.parametrize(
    "budget", [-1, 2.5, True, None, "50", "ms", "-5ms", "5 ms", "1s", "9" * 400 + "ms"]
)
def test_a_budget_is_tiles_or_milliseconds(budget):
    with pytest.raises(ConfigError, match=r"budget=.* must be a number of tiles, or milliseconds"):
        DetectionSettings(budget=budget)
    assert DetectionSettings(budget="50ms").budget_seconds == 0.05
    assert DetectionSettings(budget=np.int64(5)).budget_seconds is None
