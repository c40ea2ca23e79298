"""Average precision on cases worked by hand, and against plain loops and scikit-learn's definition."""

import numpy as np
import pytest

from retinaface_tf.evaluation.average_precision import (
    average_precision,
    best_overlap,
    match_detections,
    outcomes,
)

BOX = [0.0, 0.0, 10.0, 10.0]
FAR = [100.0, 100.0, 110.0, 110.0]


def detections(*rows):
    rows = np.array(rows, float).reshape(-1, 5)
    return rows[:, :4], rows[:, 4]


def test_a_perfect_detector_has_average_precision_one():
    assert average_precision([detections([*BOX, 0.9])], [([BOX], None)]) == 1.0


def test_a_false_positive_above_the_face_halves_it_and_one_below_costs_nothing():
    truth = [([BOX], None)]
    assert average_precision([detections([*FAR, 0.9], [*BOX, 0.8])], truth) == 0.5
    assert average_precision([detections([*FAR, 0.7], [*BOX, 0.8])], truth) == 1.0


def test_the_second_detection_of_a_face_is_wrong():
    truth = [([BOX, FAR], None)]
    found = [detections([*BOX, 0.9], [*BOX, 0.8], [*FAR, 0.7])]
    assert average_precision(found, truth) == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_ignored_faces_are_neither_right_nor_wrong():
    truth = [([BOX, FAR], [True, False])]
    found = [detections([*BOX, 0.9], [*BOX, 0.8], [*FAR, 0.7])]
    assert average_precision(found, truth) == 1.0


def test_equal_scores_count_together_whatever_their_order():
    truth = [([BOX], None), ([BOX], None)]
    one = [detections([*BOX, 0.5]), detections([*FAR, 0.5])]
    assert average_precision(one, truth) == average_precision(one[::-1], truth[::-1]) == 0.25


def test_images_without_faces_give_false_positives_and_images_without_detections_misses():
    truth = [(np.zeros((0, 4)), None), ([BOX], None), ([BOX], None)]
    found = [detections([*BOX, 0.9]), detections([*BOX, 0.8]), detections()]
    assert average_precision(found, truth) == 0.25


def test_nothing_to_find_is_not_a_number_and_nothing_found_is_zero():
    assert np.isnan(average_precision([detections([*BOX, 0.9])], [([BOX], [True])]))
    assert average_precision([detections()], [([BOX], None)]) == 0.0


def test_inclusive_boxes_are_one_pixel_wider_and_higher():
    boxes, faces = np.array([[0.0, 0, 1, 1]]), np.array([[1.0, 1, 2, 2], [0, 0, 3, 3]])
    face, iou = best_overlap(boxes, faces, inclusive=True)
    assert face[0] == 1 and iou[0] == 4 / 16
    assert best_overlap(boxes, faces[:1], inclusive=True)[1][0] == 1 / 7
    assert best_overlap(boxes, faces[:1], inclusive=False)[1][0] == 0


def test_random_sets_equal_plain_loops(rng):
    truth, found = [], []
    for _ in range(60):
        corner = rng.uniform(0, 60, (rng.integers(0, 6), 2))
        boxes = np.hstack([corner, corner + rng.uniform(10, 30, corner.shape)])
        guess = np.vstack([boxes + rng.normal(0, 3, boxes.shape), boxes[:2] + 1, [[5, 5, 40, 40]]])
        truth.append((boxes, rng.random(len(boxes)) < 0.3))
        found.append((guess, np.round(rng.random(len(guess)), 1)))
    assert average_precision(found, truth) == pytest.approx(loops(found, truth), abs=1e-12)


def loops(found, truth, threshold=0.5):
    """The definition as plain loops: lower a threshold over the distinct scores."""
    events = []
    faces = 0
    for (boxes, scores), (gt, ignored) in zip(found, truth):
        faces += sum(not i for i in ignored)
        taken = set()
        for d in sorted(range(len(scores)), key=lambda d: -scores[d]):
            best, best_iou = None, 0.0
            for g in range(len(gt)):
                w = min(boxes[d][2], gt[g][2]) - max(boxes[d][0], gt[g][0])
                h = min(boxes[d][3], gt[g][3]) - max(boxes[d][1], gt[g][1])
                inter = max(w, 0) * max(h, 0)
                areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (boxes[d], gt[g])]
                if inter / (sum(areas) - inter) > best_iou:
                    best, best_iou = g, inter / (sum(areas) - inter)
            if best is not None and best_iou >= threshold:
                if ignored[best]:
                    continue
                events.append((scores[d], best not in taken))
                taken.add(best)
            else:
                events.append((scores[d], False))
    points = []
    for threshold in sorted({s for s, _ in events}, reverse=True):
        inside = [right for s, right in events if s >= threshold]
        points.append((sum(inside) / faces, sum(inside) / len(inside)))
    area, before = 0.0, 0.0
    for i, (recall, _) in enumerate(points):
        area += (recall - before) * max(p for _, p in points[i:])
        before = recall
    return area


def test_lists_of_different_length_are_refused():
    with pytest.raises(ValueError, match="2 images"):
        match_detections([detections(), detections()], [np.zeros((0, 4))])


def test_outcomes_name_each_detection():
    matches = match_detections(
        [detections([*BOX, 0.9], [*BOX, 0.8], [*FAR, 0.7], [50, 50, 60, 60, 0.6])],
        [np.array([BOX, FAR])],
    )
    assert outcomes(matches, [False, True]).tolist() == [1, 0, -1, 0]
