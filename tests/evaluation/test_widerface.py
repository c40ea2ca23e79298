"""WIDER FACE's protocol: cases worked by hand, and the published description as plain loops."""

import numpy as np
import pytest

from retinaface_tf.errors import DataError
from retinaface_tf.evaluation.detections import ImageDetections
from retinaface_tf.evaluation.widerface import (
    SUBSETS,
    WiderFaceTruth,
    evaluate_widerface,
    read_box_list,
    read_ground_truth,
)

A, B = (0, 0, 20, 20), (100, 100, 130, 140)
NOWHERE = (500, 500, 520, 520)


def truth_of(*images, masks=None, subsets=SUBSETS):
    """Each image a list of boxes; `masks` says which faces the subsets ask for (default all)."""
    boxes = tuple(np.array(i, float).reshape(-1, 4) for i in images)
    masks = masks or [np.ones(len(b), bool) for b in boxes]
    wanted = tuple(np.array(m, bool) for m in masks)
    labels = tuple(np.zeros(len(b), int) for b in boxes)
    return WiderFaceTruth(
        images=tuple(f"{i}--event/{i}" for i in range(len(images))),
        boxes=boxes,
        subsets={s: wanted for s in subsets},
        attributes={"blur": labels, "occlusion": labels, "pose": labels},
    )


def found_in(*images):
    """Each image a list of (box, score), or None for an image missing from the results."""
    result = {}
    for i, rows in enumerate(images):
        if rows is not None:
            boxes = np.array([r[0] for r in rows], float).reshape(-1, 4)
            result[f"{i}--event/{i}"] = ImageDetections(boxes, np.array([r[1] for r in rows]))
    return result


def ap(truth, found):
    return evaluate_widerface(truth, found).average_precision("easy")


def test_mean_over_thresholds_counts_how_tight_the_box_is():
    # In whole pixels with both ends IoU 11 * 9 / 11 * 11 = 0.82: right at seven of ten thresholds.
    truth, found = truth_of([(0, 0, 10, 10)]), found_in([((0, 0, 10, 8), 0.9)])
    mean = evaluate_widerface(truth, found).mean_average_precision("easy")
    assert mean == pytest.approx(0.7)


def test_all_found_is_one_and_nothing_found_is_zero():
    assert ap(truth_of([A, B]), found_in([(A, 0.9), (B, 0.2)])) == 1.0
    assert ap(truth_of([A, B]), found_in([])) == 0.0
    assert ap(truth_of([A, B]), {}) == 0.0


def test_a_face_outside_the_list_is_neither_right_nor_wrong():
    truth = truth_of([A, B], masks=[[False, True]])
    assert ap(truth, found_in([(A, 0.9), (A, 0.8), (B, 0.1)])) == 1.0
    # The same first detection on nothing at all is a false positive.
    assert ap(truth, found_in([(NOWHERE, 0.9), (B, 0.1)])) == 0.5


def test_duplicates_are_false_positives():
    found = found_in([(A, 0.9), (A, 0.5), (B, 0.1)])
    assert ap(truth_of([A, B]), found) == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)


def test_equal_scores_count_together():
    # One right, one wrong at the same score: the precision at that threshold is one half.
    both = found_in([(A, 0.5), (NOWHERE, 0.5)], [(A, 0.1)])
    assert ap(truth_of([A], [A]), both) == pytest.approx(2 / 3)


def test_a_face_at_exactly_half_overlap_is_found():
    # Inclusive sides: 20 x 10 against 20 x 20 pixels.
    assert ap(truth_of([(0, 0, 19, 19)]), found_in([((0, 0, 19, 9), 0.9)])) == 1.0
    assert ap(truth_of([(0, 0, 19, 19)]), found_in([((0, 0, 19, 8.9), 0.9)])) == 0.0


def test_images_without_faces_are_left_out():
    truth = truth_of([], [A])
    assert ap(truth, found_in([(NOWHERE, 0.9)], [(A, 0.8)])) == 1.0


def test_missing_images_count_as_missed():
    result = evaluate_widerface(truth_of([A], [A], [A, B]), found_in([(A, 0.9)], None, []))
    assert result.average_precision("hard") == 0.25
    assert result.missing == 1


def test_a_subset_without_faces_is_not_a_number():
    truth = truth_of([A], masks=[[False]])
    assert np.isnan(ap(truth, found_in([(A, 0.9)])))


def test_a_detection_takes_the_face_it_overlaps_most_even_if_found_before():
    # The second detection overlaps B' by more than half too, but A more: a duplicate, not a find.
    near = (0, 2, 20, 22)
    found = found_in([(A, 0.9), ((0, 0.5, 20, 20.5), 0.8)])
    assert ap(truth_of([A, near]), found) == 0.5


def test_scores_are_normalised_over_the_whole_set():
    truth = truth_of([A], [A])
    found = found_in([(A, 1000.0)], [(NOWHERE, 1000.4), (A, 0.0)])
    # 0.9996 and 1 both pass the first threshold, 0.999: they count together.
    assert ap(truth, found) == pytest.approx(2 / 3)


def test_unknown_images_are_refused():
    with pytest.raises(DataError, match="nobody"):
        evaluate_widerface(truth_of([A]), {"nobody": found_in([(A, 1)])["0--event/0"]})


def random_set(rng, images=300):
    truth, masks, found = [], {s: [] for s in SUBSETS}, {}
    for i in range(images):
        corner = rng.integers(0, 120, (rng.integers(0, 9), 2)).astype(float)
        boxes = np.hstack([corner, corner + rng.integers(6, 50, corner.shape)])
        truth.append(boxes)
        for s, share in zip(SUBSETS, (0.3, 0.6, 0.9)):
            masks[s].append(rng.random(len(boxes)) < share)
        if rng.random() < 0.05:
            continue
        parts = [boxes + rng.normal(0, 3, boxes.shape) for _ in range(rng.integers(0, 4))]
        stray = rng.uniform(0, 120, (rng.integers(0, 12), 2))
        parts.append(np.hstack([stray, stray + rng.uniform(5, 60, stray.shape)]))
        boxes = np.concatenate([np.zeros((0, 4)), *parts])
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        # Few digits, so that equal scores and scores on a threshold do occur.
        scores = -np.sort(-np.round(rng.random(len(boxes)), int(rng.integers(1, 6))))
        found[f"{i}--event/{i}"] = ImageDetections(boxes, scores)
    base = truth_of(*truth)
    return (
        WiderFaceTruth(
            base.images, base.boxes, {s: tuple(m) for s, m in masks.items()}, base.attributes
        ),
        found,
    )


def test_three_hundred_random_images_equal_the_description_in_plain_loops(rng):
    truth, found = random_set(rng)
    result = evaluate_widerface(truth, found)
    for subset in SUBSETS:
        recall, precision, area = plain_loops(truth, found, subset)
        curve = result.curve(result.wanted(subset))
        np.testing.assert_allclose(curve.recall, recall, rtol=0, atol=1e-9)
        np.testing.assert_allclose(curve.precision, precision, rtol=0, atol=1e-9)
        assert abs(result.average_precision(subset) - area) < 1e-9
        assert 0.02 < area < 0.98  # the case is not a trivial one


def plain_loops(truth, found, subset):
    """The protocol, one statement of its description after the other, no array operation."""
    least = min(float(s) for d in found.values() for s in d.scores)
    greatest = max(float(s) for d in found.values() for s in d.scores)
    total = [[0, 0] for _ in range(1000)]
    faces = 0
    for image, (key, boxes) in enumerate(zip(truth.images, truth.boxes)):
        keep = [bool(k) for k in truth.subsets[subset][image]]
        faces += sum(keep)
        if len(boxes) == 0 or key not in found or len(found[key].scores) == 0:
            continue
        scores = [(float(s) - least) / (greatest - least) for s in found[key].scores]
        state = [0] * len(boxes)
        proposal, recalled = [], []
        for box in found[key].boxes.tolist():
            best, best_overlap = 0, -1.0
            for g, face in enumerate(boxes.tolist()):
                o = overlap(face, box)
                if o > best_overlap:
                    best, best_overlap = g, o
            is_proposal = 1
            if best_overlap >= 0.5:
                if not keep[best]:
                    state[best], is_proposal = -1, -1
                elif state[best] == 0:
                    state[best] = 1
            proposal.append(is_proposal)
            recalled.append(sum(1 for s in state if s == 1))
        for t in range(1, 1001):
            threshold = 1 - t / 1000
            last = -1
            for d, score in enumerate(scores):
                if score >= threshold:
                    last = d
            if last >= 0:
                total[t - 1][0] += sum(1 for p in proposal[: last + 1] if p == 1)
                total[t - 1][1] += recalled[last]
    precision = [right / count if count else 0.0 for count, right in total]
    recall = [right / faces for _, right in total]
    padded_recall, padded_precision = [0.0, *recall, 1.0], [0.0, *precision, 0.0]
    for i in range(len(padded_precision) - 2, -1, -1):
        padded_precision[i] = max(padded_precision[i], padded_precision[i + 1])
    area = 0.0
    for i in range(1, len(padded_recall)):
        area += (padded_recall[i] - padded_recall[i - 1]) * padded_precision[i]
    return recall, precision, area


def overlap(a, b):
    w = min(a[2], b[2]) - max(a[0], b[0]) + 1
    h = min(a[3], b[3]) - max(a[1], b[1]) + 1
    if w <= 0 or h <= 0:
        return 0.0
    area_a = (a[2] - a[0] + 1) * (a[3] - a[1] + 1)
    area_b = (b[2] - b[0] + 1) * (b[3] - b[1] + 1)
    return w * h / (area_a + area_b - w * h)


def test_tables_add_up(rng):
    truth, found = random_set(rng, images=40)
    result = evaluate_widerface(truth, found)
    faces = int(result.wanted("hard").sum())
    assert sum(n for n, _ in result.by_height("hard").values()) == faces
    assert sum(n for n, _ in result.by_event("hard").values()) == faces
    assert {n for n, _ in [result.by_attribute("hard")["blur"]["clear"]]} == {faces}
    assert result.by_attribute("hard")["blur"]["clear"][1] == result.average_precision("hard")
    assert result.mean_average_precision("hard") < result.average_precision("hard")


def test_an_events_figure_is_that_of_its_images_alone(rng):
    truth, found = random_set(rng, images=12)
    truth = WiderFaceTruth(
        tuple(f"{i % 3}--e/{i}" for i in range(12)), truth.boxes, truth.subsets, truth.attributes
    )
    found = {f"{int(k.split('/')[1]) % 3}--e/{k.split('/')[1]}": v for k, v in found.items()}
    alone = truth.restricted_to(k for k in truth.images if k.startswith("1--"))
    # The set's least and greatest score lie in that event: both are normalised alike.
    strays = np.array([[300.0, 300, 310, 310]] * 2)
    found["1--e/1"] = ImageDetections(strays, np.array([1.0, 0.0]))
    whole = evaluate_widerface(truth, found).by_event("hard")
    part = {key: value for key, value in found.items() if key.startswith("1--")}
    result = evaluate_widerface(alone, part)
    expected = (int(result.wanted("hard").sum()), result.average_precision("hard"))
    assert whole["1--e"] == pytest.approx(expected)


def test_truth_with_boxes_of_resized_images_keeps_its_lists():
    truth = truth_of([A, B], [A], masks=[[True, False], [True]])
    small = truth.with_boxes({"0--event/0": np.array([A, B]) / 2})
    assert small.images == ("0--event/0",)
    assert small.subsets["easy"][0].tolist() == [True, False]
    with pytest.raises(DataError, match="1 faces"):
        truth.with_boxes({"0--event/0": np.array([A])})


def test_official_lists_hold_the_published_counts(data):
    truth = read_ground_truth(data / "wider" / "annotations" / "ground_truth")
    assert len(truth.images) == 3226
    assert sum(len(b) for b in truth.boxes) == 39708
    counts = {s: sum(int(m.sum()) for m in truth.subsets[s]) for s in SUBSETS}
    assert counts == {"easy": 7211, "medium": 13319, "hard": 31958}
    listed = read_box_list(
        data / "wider" / "annotations" / "wider_face_val_bbx_gt.txt", truth.images
    )
    for key, boxes in zip(truth.images, truth.boxes):
        np.testing.assert_array_equal(listed[key], boxes)


def test_the_truth_detected_is_perfect(data):
    truth = read_ground_truth(data / "wider" / "annotations" / "ground_truth")
    found = {
        key: ImageDetections(boxes, np.ones(len(boxes)))
        for key, boxes in zip(truth.images, truth.boxes)
    }
    result = evaluate_widerface(truth, found)
    # Annotated twice at one place, a face is found once: a handful of WIDER FACE's boxes are.
    assert [result.average_precision(s) > 0.999 for s in SUBSETS] == [True] * 3


def test_a_folder_without_ground_truth_is_named(tmp_path):
    with pytest.raises(DataError, match=r"wider_face_val\.mat is missing"):
        read_ground_truth(tmp_path)
    (tmp_path / "wider_face_val.mat").write_bytes(b"not a mat")
    with pytest.raises(DataError, match="not a readable"):
        read_ground_truth(tmp_path)
