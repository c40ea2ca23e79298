"""A teacher's scores on their way from labels to what each anchor's class loss takes for true."""

from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf

from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.data.augment import load_and_augment
from retinaface_tf.data.options import AugmentConfig, MatchConfig
from retinaface_tf.data.pipeline import TrainingPipeline
from retinaface_tf.data.readers.annotation import AnnotatedImage
from retinaface_tf.data.readers.json_labels import read_json_labels
from retinaface_tf.data.records import RecordSource, pack_images
from retinaface_tf.data.sources import EpochSlice, LabelledSource
from retinaface_tf.data.targets import encode_targets
from retinaface_tf.errors import DataError
from retinaface_tf.geometry.anchors import generate_anchors
from retinaface_tf.images.save import encode_jpeg
from retinaface_tf.losses.config import LossConfig
from retinaface_tf.models import build_retinaface
from retinaface_tf.training.config import OptimizerConfig
from retinaface_tf.training.step import DetectorTraining

NAN = np.float32("nan")
MATCH = MatchConfig(positive_threshold=0.4)
# Learnt with and without a score; ignored with one, twice, and without.
BOXES = np.float32(
    [[5, 6, 41, 50], [50, 8, 70, 30], [8, 60, 33, 89], [52, 40, 61, 51], [64, 60, 90, 92]]
)
IGNORED = np.array([False, False, True, True, True])
SCORES = np.float32([0.9, NAN, 0.5, 0.35, NAN])


def annotated(path="a.jpg", scores=SCORES):
    return AnnotatedImage(path, BOXES, ignored=IGNORED, scores=scores)


@pytest.fixture(scope="module")
def encoded():
    pixels = np.random.default_rng(0).integers(0, 255, (96, 96, 3), dtype=np.uint8)
    return encode_jpeg(pixels)


def test_labels_have_scores_or_none(tmp_path):
    faces = [
        '{"box": [1, 2, 9, 12], "score": 0.93}',
        '{"box": [1, 2, 9, 12], "score": 0.4, "ignored": true}',
        '{"box": [1, 2, 9, 12]}',
    ]
    path = tmp_path / "labels.jsonl"
    path.write_text('{"image": "a.jpg", "faces": [' + ", ".join(faces) + "]}")
    (image,) = read_json_labels(path, tmp_path)
    np.testing.assert_array_equal(image.scores, np.float32([0.93, 0.4, NAN]))
    np.testing.assert_array_equal(image.keep([1]).scores, np.float32([0.4]))
    path.write_text(path.read_text().replace("0.93", "93"))
    with pytest.raises(DataError, match=r"in 0\.\.1"):
        read_json_labels(path, tmp_path)


def test_sources_give_each_face_its_score_or_none(encoded, tmp_path):
    images = []
    for number, scores in enumerate((SCORES, None)):
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(encoded)
        images.append(annotated(path, scores))
    pack_images(images, tmp_path / "packed", per_shard=1)
    part = EpochSlice(seed=1, epoch=0, steps=1, batch=2, end=2)
    for source in (LabelledSource(images), RecordSource(tmp_path / "packed")):
        seen = {int(e["image_id"]): e["scores"].numpy() for e in source.examples(part)}
        np.testing.assert_array_equal(seen[0], SCORES)
        np.testing.assert_array_equal(seen[1], np.full(5, NAN))
    assert LabelledSource(images).digest() != LabelledSource(images[1:] * 2).digest()


def test_scores_stay_with_their_faces_and_small_faces_lose_theirs(encoded):
    config = AugmentConfig(crop_scale=(0.4, 1.2), flip=0.5, rotate=0.5, min_face_size=10)
    # Each face is told by its score.
    scores = np.float32([0.1, 0.2, 0.3, 0.4, 0.5])
    lost = kept = 0
    for seed in range(40):
        key = tf.constant([seed, 1])
        scene = load_and_augment(
            encoded, BOXES, np.full((5, 5, 2), NAN), IGNORED, key, 96, config, scores=scores
        )
        # Its place in the scene, by the sequence of those that are in it.
        plain = load_and_augment(
            encoded,
            BOXES,
            scores[:, None, None] * np.ones((5, 5, 2), np.float32),
            IGNORED,
            key,
            96,
            AugmentConfig(crop_scale=(0.4, 1.2), flip=0.5, rotate=0.5, min_face_size=0),
            scores=scores,
        )
        np.testing.assert_array_equal(scene.boxes, plain.boxes)
        small = np.min(scene.boxes[:, 2:] - scene.boxes[:, :2], axis=1) < 10
        np.testing.assert_array_equal(scene.scores, np.where(small, NAN, plain.scores))
        np.testing.assert_array_equal(plain.ignored, plain.scores.numpy() > 0.25)
        lost, kept = lost + small.sum(), kept + (~small).sum()
    assert lost > 5 and kept > 20


def overlap(anchor, box) -> Fraction:
    cx, cy, w, h = (Fraction(float(v)) for v in anchor)
    a = (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
    b = [Fraction(float(v)) for v in box]
    inner = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    return inner / (w * h + (b[2] - b[0]) * (b[3] - b[1]) - inner)


def soft_by_hand(anchors, labels, faces) -> np.ndarray:
    """One anchor at a time, in exact numbers."""
    result = np.zeros(len(anchors))
    uncertain = [2, 3]
    iou = {f: [overlap(anchor, BOXES[f]) for anchor in anchors] for f in uncertain}
    best = {f: iou[f].index(max(iou[f])) for f in uncertain}
    for j in range(len(anchors)):
        if labels[j] == 1:
            result[j] = {0: 0.9, 1: 1.0}[faces[j]]
            continue
        own = [f for f in uncertain if best[f] == j]
        own = own or [f for f in uncertain if iou[f][j] > 0.4]
        if own:
            result[j] = SCORES[max(own, key=lambda f: iou[f][j])]
    return result


def test_anchors_learn_the_scores_of_their_faces():
    network = RetinaFaceConfig()
    anchors = generate_anchors(network.levels, 96, 96)
    faces = BOXES, np.full((5, 5, 2), NAN), IGNORED
    plain = encode_targets(*faces, anchors, network, MATCH)
    found = encode_targets(*faces, anchors, network, MATCH, scores=SCORES)
    soft = found.pop("soft_targets").numpy()
    assert plain.keys() == found.keys()
    for name in plain:
        np.testing.assert_array_equal(plain[name], found[name], err_msg=name)
    labels = plain["labels"].numpy()
    expected = soft_by_hand(anchors, labels, plain["faces"].numpy())
    np.testing.assert_array_equal(soft, expected.astype(np.float32))
    assert set(soft.tolist()) == {0.0, *np.float32([0.9, 1.0, 0.5, 0.35]).tolist()}
    assert not soft[labels == 0].any()
    # The last face has no score, so anchors on it stay left out.
    assert ((labels == -1) & (soft == 0)).any()


@pytest.mark.parametrize("cascade", [False, True])
def test_batches_carry_scores_where_they_are_wanted(cascade, encoded):
    network = build_retinaface(RetinaFaceConfig(channels=8, cascade=cascade))
    source = LabelledSource([annotated(), annotated("b.jpg", None)], [encoded] * 2)
    options = {"size": 96, "batch": 2, "augment": AugmentConfig(crop_scale=(1, 1)), "match": MATCH}
    plain = next(iter(TrainingPipeline(source, network.config, **options).epoch(0)))
    pipeline = TrainingPipeline(source, network.config, score_targets=True, **options)
    batch = next(iter(pipeline.epoch(0)))
    added = {"soft_targets", "scores"} if cascade else {"soft_targets"}
    assert batch.keys() - plain.keys() == added
    for name in plain:
        np.testing.assert_array_equal(plain[name], batch[name], err_msg=name)
    unknown = list(batch["image_id"]).index(1)
    positive = batch["labels"][unknown] == 1
    np.testing.assert_array_equal(batch["soft_targets"][unknown], np.float32(positive))

    config = LossConfig(score_targets=True)
    training = DetectorTraining(network, pipeline.anchors, config, OptimizerConfig(), MATCH)
    losses, _ = training._total_loss(batch)
    assert all(np.isfinite(value).all() for value in losses.values())
    if cascade:
        # Boxes that the first stage leaves as they are: the second one's are the anchors.
        targets = training._refined_targets(np.zeros((2, len(pipeline.anchors), 4)), batch)
        for place in (0, 1):
            alone = encode_targets(
                *(batch[name][place] for name in ("boxes", "landmarks", "ignored")),
                pipeline.anchors,
                network.config,
                MATCH,
                pipeline.anchors,
                scores=batch["scores"][place],
            )
            assert {0.5, 1.0} & set(alone["soft_targets"].numpy().tolist())
            np.testing.assert_array_equal(targets["soft_targets"][place], alone["soft_targets"])
