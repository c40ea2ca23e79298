"""FDDB: overlaps against drawn pixels and closed forms, pairings by hand, the lists as published."""

import itertools

import numpy as np
import pytest

from retinaface_tf.data.readers.fddb import read_ellipses
from retinaface_tf.errors import DataError
from retinaface_tf.evaluation.detections import ImageDetections
from retinaface_tf.evaluation.fddb import box_ellipse_iou, evaluate_fddb


def circle(radius, x, y):
    return [radius, radius, 0.0, x, y]


def boxes(*rows):
    rows = np.array(rows, float).reshape(-1, 5)
    return ImageDetections(rows[:, :4], rows[:, 4])


def test_a_circle_in_its_square_covers_a_quarter_of_pi():
    iou = box_ellipse_iou([[-5, -5, 5, 5]], [circle(5, 0, 0)])
    assert iou[0, 0] == pytest.approx(np.pi / 4, abs=1e-5)


def test_a_box_through_the_middle_cuts_half():
    iou = box_ellipse_iou([[0, -9, 9, 9]], [[7, 4, 0.7, 0, 0]])
    area = np.pi * 28
    half = area / 2
    assert iou[0, 0] == pytest.approx(half / (9 * 18 + area - half), abs=1e-5)


def test_overlaps_equal_those_of_drawn_pixels(rng):
    grid = (np.arange(1600) + 0.5) / 10
    x, y = np.meshgrid(grid, grid)
    for _ in range(12):
        a, b = np.sort(rng.uniform(8, 50, 2))[::-1]
        ellipse = [a, b, rng.uniform(-np.pi, np.pi), *rng.uniform(50, 110, 2)]
        corner = rng.uniform(10, 90, 2)
        box = [*corner, *(corner + rng.uniform(5, 70, 2))]
        cos, sin = np.cos(ellipse[2]), np.sin(ellipse[2])
        u, v = x - ellipse[3], y - ellipse[4]
        inside = ((u * cos + v * sin) / a) ** 2 + ((v * cos - u * sin) / b) ** 2 <= 1
        boxed = (x >= box[0]) & (x < box[2]) & (y >= box[1]) & (y < box[3])
        drawn = np.sum(inside & boxed) / np.sum(inside | boxed)
        assert box_ellipse_iou([box], [ellipse])[0, 0] == pytest.approx(drawn, abs=3e-3)


def test_scores_of_one_right_one_wrong_and_one_missed_face():
    ellipses = {"a": np.array([circle(5, 0, 0), circle(5, 100, 100)])}
    found = {"a": boxes([-5, -5, 5, 5, 0.9], [50, 50, 60, 60, 0.8])}
    curve = evaluate_fddb(ellipses, found)
    assert curve.thresholds.tolist() == [0.9, 0.8]
    assert curve.false_positives.tolist() == [0, 1]
    assert curve.discrete.tolist() == [0.5, 0.5]
    np.testing.assert_allclose(curve.continuous, np.pi / 8, atol=1e-5)
    assert curve.at(0) == pytest.approx((0.5, np.pi / 8), abs=1e-5)


def test_a_loose_box_scores_in_the_continuous_curve_only_and_is_a_false_positive():
    curve = evaluate_fddb({"a": np.array([circle(5, 0, 0)])}, {"a": boxes([-9, -9, 9, 9, 0.9])})
    assert curve.discrete.tolist() == [0]
    assert curve.false_positives.tolist() == [1]
    assert curve.continuous[0] == pytest.approx(25 * np.pi / 324, abs=1e-5)


def test_a_second_box_on_a_face_is_a_false_positive():
    found = {"a": boxes([-5, -5, 5, 5, 0.9], [-5, -5, 5, 5, 0.7])}
    curve = evaluate_fddb({"a": np.array([circle(5, 0, 0)])}, found)
    assert curve.false_positives.tolist() == [0, 1]


def test_images_without_answers_and_equal_scores():
    ellipses = {k: np.array([circle(5, 0, 0)]) for k in "abc"}
    found = {"a": boxes([-5, -5, 5, 5, 0.5]), "b": boxes([50, 50, 60, 60, 0.5])}
    curve = evaluate_fddb(ellipses, found)
    assert curve.thresholds.tolist() == [0.5]
    assert curve.discrete[0] == pytest.approx(1 / 3)
    assert curve.false_positives.tolist() == [1]
    empty = evaluate_fddb(ellipses, {})
    assert empty.at(1000) == (0.0, 0.0)


def test_pairing_is_the_best_of_all_pairings(rng):
    for _ in range(20):
        ellipses = np.array([circle(rng.uniform(5, 12), *rng.uniform(0, 25, 2)) for _ in range(3)])
        corner = rng.uniform(-8, 20, (4, 2))
        table = np.hstack([corner, corner + 16, -np.sort(-rng.random((4, 1)), axis=0)])
        curve = evaluate_fddb({"a": ellipses}, {"a": boxes(*table)})
        overlaps = box_ellipse_iou(table[:, :4], ellipses)
        for n in range(1, 5):
            slots = [*range(n), None, None, None]
            best = max(
                sum(overlaps[d, e] for e, d in enumerate(choice) if d is not None)
                for choice in itertools.permutations(slots, 3)
            )
            assert curve.continuous[n - 1] * 3 == pytest.approx(best, abs=1e-9)


def test_unknown_images_and_broken_lists_are_refused(tmp_path):
    with pytest.raises(DataError, match="nobody"):
        evaluate_fddb({}, {"nobody": boxes()})
    file = tmp_path / "FDDB-fold-01-ellipseList.txt"
    file.write_text("img_1\n2\n1 2 3 4 5 1\n")
    with pytest.raises(DataError, match="line 3"):
        read_ellipses(tmp_path)
    with pytest.raises(DataError, match="holds no FDDB"):
        read_ellipses(tmp_path / "..")


def test_the_ten_folds_hold_the_published_counts(data):
    ellipses = read_ellipses(data / "fddb" / "FDDB-folds")
    assert len(ellipses) == 2845
    assert sum(len(e) for e in ellipses.values()) == 5171
