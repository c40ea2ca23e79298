"""Landmark errors by hand, the order of points, and readers of annotated sets."""

import json

import numpy as np
import pytest

from retinaface_tf.errors import DataError
from retinaface_tf.evaluation.landmark_files import read_landmark_truth
from retinaface_tf.evaluation.landmarks import (
    box_size,
    landmark_errors,
    match_landmarks,
    mirrored_share,
    points_box,
)

FACE = np.array([[30.0, 40], [70, 40], [50, 60], [35, 80], [65, 80]])


def test_the_error_is_the_mean_distance_over_the_root_of_the_boxs_area():
    shifted = FACE + np.array([3.0, 4.0])
    result = landmark_errors([shifted], [FACE], box_size([[0, 0, 50, 200]]))
    assert result.mean == pytest.approx(0.05)
    np.testing.assert_allclose(result.point_means, 0.05)
    assert result.failure_rate == 0


def test_faces_not_found_are_failures_but_not_in_the_mean():
    missing = np.full((5, 2), np.nan)
    result = landmark_errors([FACE, FACE + 15.0, missing], [FACE] * 3, np.full(3, 100.0))
    assert result.num_found == 2
    assert result.mean == pytest.approx(0.15 * np.sqrt(2) / 2)
    assert result.failure_rate == pytest.approx(2 / 3)
    np.testing.assert_allclose(result.cumulative(np.array([0.0, 0.1, 0.3])), [1 / 3, 1 / 3, 2 / 3])
    # The perfect face alone lies under the limit: a third of the unit area.
    assert result.area(0.1) == pytest.approx(1 / 3)


def test_points_without_annotation_add_nothing():
    truth = FACE.copy()
    truth[0] = np.nan
    predicted = FACE.copy()
    predicted[0] += 500
    result = landmark_errors([predicted], [truth], [100.0])
    assert result.mean == 0
    assert np.isnan(result.point_means[0])


def test_every_face_takes_one_detection_and_the_best_overlap_first():
    truth = np.array([[0.0, 0, 10, 10], [4, 0, 14, 10], [90, 90, 99, 99]])
    boxes = np.array([[4.0, 0, 14, 10], [1, 0, 11, 10]])
    landmarks = np.stack([FACE, FACE + 1])
    matched = match_landmarks(truth, boxes, landmarks)
    np.testing.assert_array_equal(matched[1], FACE)
    np.testing.assert_array_equal(matched[0], FACE + 1)
    assert np.isnan(matched[2]).all()
    assert np.isnan(match_landmarks(truth, boxes[:0], landmarks[:0])).all()


def test_mirrored_order_is_told_from_turned_faces(rng):
    angles = rng.uniform(0, 2 * np.pi, 50)
    turns = np.array([[np.cos(angles), -np.sin(angles)], [np.sin(angles), np.cos(angles)]])
    turned = np.einsum("ijf,pj->fpi", turns, FACE - 50) + 50
    assert mirrored_share(turned) == 0
    assert mirrored_share(turned[:, [1, 0, 2, 4, 3]]) == 1


def test_the_box_of_points_is_their_extent():
    np.testing.assert_array_equal(points_box(np.arange(136.0).reshape(68, 2)), [0, 1, 134, 135])


def test_json_and_lists_are_read_and_refused_by_line(tmp_path):
    face = {"box": [0, 0, 9, 9], "landmarks": FACE.tolist()}
    file = tmp_path / "truth.jsonl"
    file.write_text(json.dumps({"image": "a.jpg", "faces": [face]}) + "\n{}\n")
    with pytest.raises(DataError, match="line 2"):
        read_landmark_truth(file)
    file.write_text(json.dumps({"image": "a.jpg", "faces": [face]}))
    (image,) = read_landmark_truth(file)
    np.testing.assert_array_equal(image.landmarks[0], FACE)
    points = tmp_path / "list.txt"
    points.write_text("a.jpg 1 2 3\n")
    with pytest.raises(DataError, match="line 1"):
        read_landmark_truth(points)
    with pytest.raises(DataError, match="neither"):
        read_landmark_truth(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        read_landmark_truth(tmp_path / "none.xml")


@pytest.mark.parametrize(
    ("path", "faces"),
    [
        ("dlib_faces/testing_with_face_landmarks.xml", None),
        ("aflw2000_samples", 16),
        ("facepoint_crops_80px/new_testing.txt", None),
    ],
)
def test_real_sets_name_their_points_in_the_librarys_order(data, path, faces):
    images = read_landmark_truth(data / path)
    points = np.concatenate([i.landmarks for i in images])
    assert faces is None or len(points) == faces
    assert len(points) > 2
    assert all(i.path.is_file() for i in images)
    assert mirrored_share(points) < 0.02
