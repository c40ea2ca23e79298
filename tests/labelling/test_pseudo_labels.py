"""Labels by several detectors: when they agree, how a run goes on, what training reads."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from retinaface_tf.data.readers.annotation import AnnotatedImage
from retinaface_tf.data.readers.json_labels import read_json_labels
from retinaface_tf.errors import ConfigError, DataError
from retinaface_tf.evaluation.detections import ImageDetections
from retinaface_tf.faces.faces import Faces
from retinaface_tf.labelling.comparison import compare_labels
from retinaface_tf.labelling.pseudo_labels import (
    AgreementConfig,
    Member,
    agree,
    label_photos,
)
from retinaface_tf.labelling.sheets import draw_label_sheet

FIVE = np.array([[2, 3], [7, 3], [5, 5], [3, 8], [7, 8]], float)


def found_faces(*found):
    """(left, top, side, score[, shift of the points]) each -> what a member found."""
    boxes = [[x, y, x + side, y + side] for x, y, side, *_ in found]
    points = [
        FIVE * side / 10 + [x, y] + (rest[0] if rest else 0) for x, y, side, _, *rest in found
    ]
    scores = np.array([row[3] for row in found], float)
    return ImageDetections(
        np.array(boxes, float).reshape(-1, 4), scores, np.array(points, float).reshape(-1, 5, 2)
    )


def test_members_means_decide_what_is_learnt_ignored_and_dropped():
    first = found_faces((0, 0, 40, 0.9), (100, 0, 40, 0.8), (200, 0, 40, 0.4))
    second = found_faces((3, 0, 40, 0.7), (300, 0, 40, 0.7))
    labels = agree([first, second], AgreementConfig(accept=0.7, ignore=0.3))
    # Both see the first: (0.9 + 0.7) / 2. One alone sees the others: half its score.
    np.testing.assert_allclose(labels.scores, [0.8, 0.4, 0.35])
    assert labels.ignored.tolist() == [False, True, True]
    x = (0.9 * 0 + 0.7 * 3) / 1.6
    np.testing.assert_allclose(labels.boxes[0], [x, 0, x + 40, 40])
    np.testing.assert_allclose(labels.landmarks[0], FIVE * 4 + [x, 0])


def test_a_member_has_one_vote_a_face_its_best():
    twice = found_faces((0, 0, 40, 0.9), (4, 0, 40, 0.5))
    labels = agree([twice, found_faces((0, 0, 40, 0.7))], AgreementConfig())
    np.testing.assert_allclose(labels.scores, [0.8])
    np.testing.assert_allclose(labels.boxes, [[0, 0, 40, 40]])


def test_points_that_members_put_elsewhere_are_unlabelled():
    first = found_faces((0, 0, 40, 0.9), (100, 0, 40, 0.9))
    near = found_faces((0, 0, 40, 0.9, 3.5), (100, 0, 40, 0.9, 2.0))
    labels = agree([first, near], AgreementConfig(point_distance=0.1))
    # Shifted by (3.5, 3.5) and (2, 2): 4.95 and 2.83 pixels of a face of 40, allowed are 4.
    assert np.isfinite(labels.landmarks).all(axis=(1, 2)).tolist() == [False, True]


def test_nobody_found_anything():
    labels = agree([found_faces(), found_faces()], AgreementConfig())
    assert [len(values) for values in labels] == [0, 0, 0, 0]
    with pytest.raises(ConfigError, match="rise"):
        AgreementConfig(accept=0.3, ignore=0.6)


class Detector:
    """Sees one face, whose score is the image's brightness; counts the images it is shown."""

    def __init__(self):
        self.seen = []

    def stream(self, images, batch_size=8):
        for path in images:
            self.seen.append(path.name)
            pixels = cv2.imread(str(path))
            if pixels is None:
                from retinaface_tf.errors import ImageError

                yield ImageError(f"Cannot read {path}: it is no image.")
                continue
            box = np.array([[5, 5, 45, 45]], np.float32)
            score = np.array([pixels.mean() / 255], np.float32)
            yield Faces(box, score, (FIVE * 4 + 5)[None].astype(np.float32), pixels.shape[:2])


@pytest.fixture
def photos(tmp_path):
    names = {"a/1.png": 230, "a/2.png": 130, "b/1.png": 30}
    for name, grey in names.items():
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "photos" / name), np.full((60, 80, 3), grey, np.uint8))
    (tmp_path / "photos/b/2.png").write_bytes(b"no image")
    return {name: tmp_path / "photos" / name for name in [*names, "b/2.png"]}


def test_labels_are_what_training_reads(photos, tmp_path):
    done = label_photos(
        photos,
        tmp_path / "out",
        [Member("one", Detector(), {"threshold": 0.1})],
        AgreementConfig(),
        excluded={"a/0.png": "repeats x"},
    )
    assert (done.photos, done.faces, done.ignored, done.with_points, done.errors) == (3, 1, 1, 1, 1)
    images = read_json_labels(tmp_path / "out/labels.jsonl", tmp_path / "photos")
    assert [image.path for image in images] == list(photos.values())[:3]
    assert [image.ignored.tolist() for image in images] == [[False], [True], []]
    np.testing.assert_allclose(images[0].boxes, [[5, 5, 45, 45]])
    np.testing.assert_allclose(images[0].landmarks[0], FIVE * 4 + 5)
    left_out = (tmp_path / "out/excluded.tsv").read_text().splitlines()
    assert left_out[0] == "a/0.png\trepeats x" and left_out[1].startswith("b/2.png\tCannot read")


def test_a_stopped_run_goes_on_and_a_new_member_searches_alone(photos, tmp_path):
    first, out = Detector(), tmp_path / "out"
    label_photos(photos, out, [Member("one", first, {"threshold": 0.1})], AgreementConfig())
    assert len(first.seen) == 4
    cut = out / "members/one/b.jsonl"
    cut.write_text(cut.read_text().splitlines()[0] + '\n{"image": "b')  # killed in a line
    (out / "labels.jsonl").unlink()
    second = Detector()
    members = [Member("one", first, {"threshold": 0.1}), Member("two", second, {})]
    label_photos(photos, out, members, AgreementConfig())
    assert first.seen[4:] == ["2.png"] and len(second.seen) == 4
    assert len(read_json_labels(out / "labels.jsonl", tmp_path)) == 3
    with pytest.raises(ConfigError, match="other settings"):
        label_photos(photos, out, [Member("one", first, {"threshold": 0.5})], AgreementConfig())


def test_photos_that_differ_in_their_ending_only_are_refused(tmp_path):
    both = {"a/1.png": tmp_path / "1.png", "a/1.jpg": tmp_path / "1.jpg"}
    with pytest.raises(DataError, match="ending"):
        label_photos(both, tmp_path, [Member("one", Detector(), {})], AgreementConfig())
    with pytest.raises(DataError, match="no photo"):
        label_photos({}, tmp_path, [Member("one", Detector(), {})], AgreementConfig())


def test_an_ignored_face_is_neither_learnt_nor_background(tmp_path):
    from retinaface_tf.config import RetinaFaceConfig
    from retinaface_tf.data.options import MatchConfig
    from retinaface_tf.data.targets import encode_targets
    from retinaface_tf.geometry.anchors import generate_anchors
    from retinaface_tf.geometry.boxes import center_to_corners, pairwise_iou

    faces = [{"box": [8, 8, 40, 40]}, {"box": [80, 80, 112, 112], "ignored": True}]
    entry = {"image": "x.png", "width": 128, "height": 128, "faces": faces}
    (tmp_path / "labels.jsonl").write_text(json.dumps(entry) + "\n")
    (image,) = read_json_labels(tmp_path / "labels.jsonl", tmp_path)
    config = RetinaFaceConfig()
    anchors = generate_anchors(config.levels, 128, 128)
    targets = encode_targets(
        image.boxes, image.landmarks, image.ignored, anchors, config, MatchConfig()
    )
    labels = targets["labels"].numpy()
    overlap = pairwise_iou(center_to_corners(anchors), image.boxes)
    assert (labels[overlap[:, 0] > 0.5] == 1).all() and (labels == 1).any()
    assert (labels[overlap[:, 1] > 0.3] == -1).all() and (overlap[:, 1] > 0.3).any()
    assert (labels[overlap.max(axis=1) < 0.3] == 0).sum() > 300


def test_a_photo_without_a_face_teaches_background(tmp_path):
    """From the line of labels to the batch, checks included: its own pixels, every anchor negative."""
    from retinaface_tf.data.pipeline import TrainingPipeline
    from retinaface_tf.training.config import TrainingConfig
    from retinaface_tf.training.datasets import open_data_sets

    cv2.imwrite(str(tmp_path / "statue.png"), np.full((60, 80, 3), 231, np.uint8))
    entry = {"image": "statue.png", "width": 80, "height": 60, "faces": []}
    (tmp_path / "labels.jsonl").write_text(json.dumps(entry) + "\n")
    data = {
        "kind": "json",
        "labels": str(tmp_path / "labels.jsonl"),
        "images": str(tmp_path),
        "max_validation": 0,
    }
    config = TrainingConfig.from_dict({"data": data})
    sets = open_data_sets(config)
    assert sets.train.count == 1
    pipeline = TrainingPipeline(sets.train, config.network, size=64, batch=2)
    batch = next(iter(pipeline.epoch(0)))
    assert not np.any(batch["labels"])
    # Crops of it in colours that were changed at random, none of the filling.
    assert (np.ptp(np.asarray(batch["image"], int), axis=(1, 2)) <= 2).all()
    assert np.mean(batch["image"]) > 150


@pytest.mark.parametrize(
    "text", ["[1]", '{"faces": []}', '{"image": "a", "faces": [{"box": [1]}]}']
)
def test_a_broken_line_of_labels_is_named(tmp_path, text):
    (tmp_path / "l.jsonl").write_text('{"image": "a.jpg", "error": "gone"}\n' + text + "\n")
    with pytest.raises(DataError, match="line 2"):
        read_json_labels(tmp_path / "l.jsonl", tmp_path)


def test_agreement_with_real_labels_counts_each_face_once(tmp_path):
    square = lambda x, side=20: [x, 0, x + side, side]  # noqa: E731
    truth = AnnotatedImage(
        tmp_path / "a.jpg",
        [square(0), square(50), square(100), square(150, 60), square(300)],
        ignored=[False, False, False, False, True],
    )
    labels = AnnotatedImage(
        tmp_path / "a.jpg",
        # On the first face twice, on the last (not judged), on none, and left open: the second.
        [square(0), square(2), square(300), square(400), square(50)],
        ignored=[False, False, False, False, True],
    )
    found = compare_labels([labels], [truth])
    assert found.found.tolist() == [0, 1, 0, 0]
    assert found.ignored.tolist() == [0, 1, 0, 0]
    assert found.missed.tolist() == [0, 1, 0, 1]
    assert (found.true_positives, found.false_positives) == (1, 2)
    assert "precision 33.3%" in found.table()
    with pytest.raises(DataError, match="None of the labelled"):
        compare_labels([labels], [AnnotatedImage(tmp_path / "b.jpg", [])])


def test_the_sheet_shows_learnt_and_ignored_faces(photos, tmp_path):
    path = photos["a/1.png"]
    image = AnnotatedImage(path, [[5, 5, 25, 45], [40, 5, 70, 45]], ignored=[False, True])
    draw_label_sheet([image], tmp_path / "sheet.png", columns=2, rows=1)
    sheet = cv2.imread(str(tmp_path / "sheet.png"))[..., ::-1]
    assert sheet.shape == (400, 800, 3)
    assert sheet[25:225, 25].tolist().count([0, 230, 90]) > 150
    assert sheet[25:225, 200].tolist().count([255, 150, 0]) > 150
