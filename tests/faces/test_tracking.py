"""Tracks over frames: against another implementation of ByteTrack, and what they are for."""

import json
from pathlib import Path

import numpy as np
import pytest

from retinaface_tf.faces.faces import Faces
from retinaface_tf.faces.tracking import Tracker, TrackingSettings
from retinaface_tf.faces.tracks import boxes_to_hide, link
from retinaface_tf.geometry.assignment import assign
from retinaface_tf.geometry.boxes import pairwise_iou

# ids of supervision 0.25.1's ByteTrack(track_activation_threshold=0.5) on each `crowd(seed)`
FIXTURE = Path(__file__).with_name("bytetrack_ids.json")


def crowd(seed, frames=60, people=8):
    """Boxes and scores of people who walk, are hidden for a while and are taken for others."""
    rng = np.random.default_rng(seed)
    place = rng.uniform(50, 550, (people, 2))
    speed = rng.normal(0, 3, (people, 2))
    side = rng.uniform(30, 80, people)
    for frame in range(frames):
        boxes, scores = [], []
        for k in range(people):
            hidden = (frame + 7 * k) % 25 < 3
            score = rng.uniform(0.12, 0.45) if (frame + 5 * k) % 13 < 2 else rng.uniform(0.62, 0.99)
            corner = place[k] + speed[k] * frame + rng.normal(0, 0.8, 2)
            size = side[k] * (1 + 0.004 * frame) * np.array([1, 1.25]) + rng.normal(0, 0.6, 2)
            if not hidden:
                boxes.append([*corner, *(corner + size)])
                scores.append(score)
        for _ in range(rng.integers(0, 2)):  # a false alarm
            corner = rng.uniform(0, 600, 2)
            boxes.append([*corner, *(corner + rng.uniform(20, 50, 2))])
            scores.append(rng.uniform(0.1, 0.8))
        order = np.argsort(scores)[::-1]
        yield np.array(boxes)[order].astype(np.float32), np.array(scores)[order].astype(np.float32)


@pytest.mark.parametrize("seed", range(4))
def test_the_same_tracks_as_another_implementation(seed):
    tracker, pairs = Tracker(30), set()
    for (boxes, scores), others in zip(crowd(seed), json.loads(FIXTURE.read_text())[seed]):
        numbers = tracker.update(boxes, scores)
        known = np.array(others, int) > 0  # it gives a track no number before its second frame
        assert (numbers[known] > 0).all()
        pairs |= set(zip(numbers[known].tolist(), np.array(others)[known].tolist()))
    assert len(pairs) >= 8
    assert len(pairs) == len({one for one, _ in pairs}) == len({other for _, other in pairs})


@pytest.mark.parametrize("shape", [(5, 5), (3, 7), (9, 4), (1, 1), (0, 3), (40, 30)])
def test_pairs_cost_the_least_as_scipy_finds_it(shape):
    optimize = pytest.importorskip("scipy.optimize")
    costs, limit = np.random.default_rng(sum(shape)).uniform(0, 1, shape), 0.6
    pairs = assign(costs, limit)
    rows, columns = optimize.linear_sum_assignment(np.minimum(costs - limit, 0))
    best = np.minimum(costs - limit, 0)[rows, columns].sum()
    assert (costs[pairs[:, 0], pairs[:, 1]] - limit).sum() == pytest.approx(best)
    assert (costs[pairs[:, 0], pairs[:, 1]] <= limit).all()
    assert len(set(pairs[:, 0])) == len(set(pairs[:, 1])) == len(pairs)


def walk(frames=30, speed=4.0, jitter=0.0, seed=0):
    """One face that walks to the right, as `Faces` of each frame."""
    rng = np.random.default_rng(seed)
    points = np.array([[10, 12], [30, 12], [20, 25], [12, 36], [28, 36]], np.float32)
    for frame in range(frames):
        corner = np.array([20 + speed * frame, 50]) + rng.normal(0, jitter, 2)
        noise = rng.normal(0, jitter, (1, 5, 2))
        box = np.array([[*corner, *(corner + np.array([40, 50]))]])
        marks = points + np.array([20 + speed * frame, 50]) + noise
        yield Faces(box.astype(np.float32), np.float32([0.9]), marks.astype(np.float32), (200, 400))


def test_gaps_are_filled_and_ends_go_on():
    found = list(walk())
    truth = np.concatenate([faces.boxes for faces in found])
    for gap in range(10, 16):
        found[gap] = found[gap][:0]
    for end in (0, 1, 28, 29):
        found[end] = found[end][:0]
    (track,) = link(found, 25)
    assert track.frames.tolist() == [k for k in range(2, 28) if not 10 <= k < 16]
    filled = track.filled()
    np.testing.assert_allclose(filled.boxes, truth[2:28], atol=1e-3)
    assert np.isnan(filled.scores[8:14]).all() and np.isfinite(filled.scores[:8]).all()
    whole = track.extended(5, 30)
    assert whole.frames.tolist() == list(range(30))
    np.testing.assert_allclose(whole.boxes, truth, atol=0.01)


def test_nothing_is_missed_forwards_or_backwards():
    found = list(walk())
    for frame in range(30):  # weak at the beginning, which only a backward look can tell a face
        found[frame].scores[:] = 0.15 if frame < 12 or frame == 20 else 0.9
    found[25] = found[25][:0]
    hidden = boxes_to_hide(found, 25, 0.5, TrackingSettings(sure=0.5, least=0.1))
    for frame, boxes in enumerate(hidden):
        assert pairwise_iou(boxes, list(walk())[frame].boxes).max() > 0.9, frame
    alone = [faces[:0] for faces in walk()]
    alone[3] = list(walk())[3]
    assert [len(boxes) for boxes in boxes_to_hide(alone, 25, 0.5, TrackingSettings())][:6] == [
        *(0, 0, 0, 1, 0, 0)
    ]


def test_smoothing_takes_jitter_and_does_not_lag():
    still = np.concatenate([faces.landmarks for faces in walk(60)])
    (track,) = link(list(walk(60, jitter=1.0)), 25)
    smooth = track.smoothed()
    before, after = (np.abs(one.landmarks - still).mean() for one in (track, smooth))
    assert after < 0.6 * before
    np.testing.assert_allclose(
        link(list(walk(60)), 25)[0].smoothed().boxes,
        np.concatenate([faces.boxes for faces in walk(60)]),
        atol=1e-3,
    )


def test_a_face_seen_again_after_long_is_another():
    found = [faces if not 10 <= k < 50 else faces[:0] for k, faces in enumerate(walk(60, 0))]
    assert [track.frames[0] for track in link(found, 25)] == [0, 50]
    assert len(link(found, 60)) == 1
    assert link([faces[:0] for faces in walk(3)], 25) == []
