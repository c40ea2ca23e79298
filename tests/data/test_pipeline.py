"""The pipeline: targets that decode to the faces, and batches that follow from seed, epoch, step."""

import numpy as np
import pytest

from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.data.options import AugmentConfig, MatchConfig, SyntheticConfig
from retinaface_tf.data.pipeline import TrainingPipeline
from retinaface_tf.data.readers.annotation import AnnotatedImage
from retinaface_tf.data.records import RecordSource, pack_images, verify_shards
from retinaface_tf.data.sources import LabelledSource
from retinaface_tf.data.synthetic.scene import draw_images
from retinaface_tf.data.targets import encode_targets
from retinaface_tf.errors import ConfigError, DataError
from retinaface_tf.geometry.anchors import generate_anchors
from retinaface_tf.geometry.box_coding import decode_boxes, decode_points
from retinaface_tf.images.save import encode_jpeg

NETWORK = RetinaFaceConfig()
SYNTHETIC = SyntheticConfig(size=96, max_faces=3, min_face=20, seed=3)


@pytest.fixture(scope="module")
def drawn():
    return list(draw_images(SYNTHETIC, 0, 10))


@pytest.fixture(scope="module")
def source(drawn):
    return LabelledSource([p[1] for p in drawn], [p[0] for p in drawn])


def make(source, **changes):
    return TrainingPipeline(source, NETWORK, **{"size": 96, "batch": 4, "seed": 7, **changes})


def batches(dataset):
    return [{k: v.numpy() for k, v in batch.items()} for batch in dataset]


def assert_same(a, b):
    assert len(a) == len(b)
    for x, y in zip(a, b):
        for name in x:
            np.testing.assert_array_equal(x[name], y[name], err_msg=name)


def test_targets_decode_to_the_faces():
    anchors = generate_anchors(NETWORK.levels, 96, 96)
    boxes = np.float32([[10, 12, 30, 35], [40, 40, 95, 90], [60, 5, 64, 9]])
    landmarks = np.full((3, 5, 2), np.nan, np.float32)
    landmarks[1] = [[50, 55], [80, 55], [65, 65], [55, 80], [75, np.nan]]
    ignored = np.array([False, False, True])
    found = encode_targets(boxes, landmarks, ignored, anchors, NETWORK, MatchConfig())
    found = {k: v.numpy() for k, v in found.items()}
    positive = np.flatnonzero(found["labels"] == 1)
    decoded = decode_boxes(found["box_deltas"][positive], anchors[positive])
    near = np.abs(decoded[:, None] - boxes[None]).max(-1) < 1e-3
    assert near.any(1).all() and near.any(0).tolist() == [True, True, False]
    big = positive[near[:, 1]]
    points = decode_points(found["landmark_deltas"][big].reshape(-1, 5, 2), anchors[big])
    np.testing.assert_allclose(
        points[:, :4], np.broadcast_to(landmarks[1, :4], (len(big), 4, 2)), atol=1e-3
    )
    assert (found["landmark_mask"][big] == [1, 1, 1, 1, 0]).all()
    assert not found["landmark_mask"][positive[near[:, 0]]].any()
    assert not found["box_deltas"][found["labels"] != 1].any()
    assert np.isfinite(found["landmark_deltas"]).all()
    assert (found["labels"] == -1).any()


def test_an_epoch_depends_on_seed_and_number_only(source):
    pipeline = make(source)
    first = batches(pipeline.epoch(0))
    assert len(first) == pipeline.steps_per_epoch == 2
    assert first[0]["image"].shape == (4, 96, 96, 3) and first[0]["image"].dtype == np.uint8
    assert_same(first, batches(make(source).epoch(0)))
    for other in (make(source).epoch(1), make(source, seed=8).epoch(0)):
        assert (batches(other)[0]["image"] != first[0]["image"]).any()


def test_an_epoch_goes_on_from_any_step(source):
    pipeline = make(source, batch=2)
    assert_same(batches(pipeline.epoch(3))[3:], batches(pipeline.epoch(3, first_step=3)))


def test_workers_and_devices_share_each_global_batch(source):
    whole = batches(make(source).epoch(2))
    shares = [batches(make(source).epoch(2, worker=w, workers=2, batch=1)) for w in (0, 1)]
    for step, batch in enumerate(whole):
        parts = [share[2 * step + i] for share in shares for i in (0, 1)]
        for name in batch:
            joined = np.concatenate([part[name] for part in parts])
            np.testing.assert_array_equal(joined, batch[name])
    with pytest.raises(ConfigError, match="3 workers"):
        make(source).epoch(0, workers=3)


def test_small_sets_repeat_and_images_without_faces_are_background(rng):
    pixels = rng.integers(0, 255, (50, 70, 3), dtype=np.uint8)
    source = LabelledSource([AnnotatedImage("empty.jpg", [])], [encode_jpeg(pixels)])
    (batch,) = batches(make(source, augment=AugmentConfig(rotate=1.0)).epoch(0))
    assert not batch["labels"].any() and batch["image_id"].tolist() == [0] * 4
    with pytest.raises(DataError, match="no usable image"):
        LabelledSource([])


def test_packed_images_come_back(drawn, tmp_path):
    images = []
    for encoded, image in drawn:
        path = tmp_path / image.path.name
        path.write_bytes(encoded)
        images.append(AnnotatedImage(path, image.boxes, image.landmarks))
    images[3].landmarks[0] = np.nan
    folder = tmp_path / "packed"
    result = pack_images(images, folder, per_shard=4)
    assert (result.shards, result.written, result.reused) == (3, 3, 0)
    assert result.faces == sum(len(i.boxes) for i in images) and verify_shards(folder) == []

    source = RecordSource(folder)
    assert source.count == 10
    seen = {}
    pipeline = make(source, batch=5)
    from retinaface_tf.data.sources import EpochSlice

    for example in source.examples(EpochSlice(seed=1, epoch=0, steps=2, batch=5, end=5)):
        seen[int(example["image_id"])] = example
    assert sorted(seen) == list(range(10))
    for number, example in seen.items():
        assert source.name(number) == str(images[number].path)
        assert example["encoded"].numpy() == images[number].path.read_bytes()
        np.testing.assert_array_equal(example["boxes"], images[number].boxes)
        np.testing.assert_array_equal(example["landmarks"], images[number].landmarks)
    assert_same(batches(pipeline.epoch(1))[1:], batches(pipeline.epoch(1, first_step=1)))

    # A damaged shard and one that is gone are written again, the good one is kept.
    shards = sorted(folder.glob("*.tfrecord"))
    content = bytearray(shards[0].read_bytes())
    content[len(content) // 2] ^= 1
    shards[0].write_bytes(content)
    shards[1].unlink()
    assert len(verify_shards(folder)) == 2
    result = pack_images(images, folder, per_shard=4)
    assert (result.written, result.reused) == (2, 1) and verify_shards(folder) == []


def test_enlarged_images_have_the_labels_of_the_plain_ones(source):
    augment = AugmentConfig(photometric=0, face_sampling=0.5, face_sizes=(20, 60))
    plain, large = (
        batches(make(source, augment=augment, enlarged=factor).epoch(0)) for factor in (1, 2)
    )
    for a, b in zip(plain, large, strict=True):
        assert b["image"].shape == (4, 192, 192, 3)
        np.testing.assert_array_equal(a["labels"], b["labels"])
        np.testing.assert_allclose(a["box_deltas"], b["box_deltas"], atol=1e-3)
        shrunk = b["image"].reshape(4, 96, 2, 96, 2, 3).mean(axis=(2, 4))
        assert np.abs(shrunk - a["image"]).mean() < 6


def test_epochs_share_one_trace():
    config = SyntheticConfig(size=64, seed=1)
    pairs = list(draw_images(config, 0, 2))
    source = LabelledSource([p[1] for p in pairs], [p[0] for p in pairs])
    pipeline = TrainingPipeline(source, RetinaFaceConfig(), size=64, batch=2)
    first, second = (next(iter(pipeline.epoch(n)))["image"].numpy() for n in (0, 1))
    assert (first != second).any()
    assert pipeline._prepare.experimental_get_tracing_count() == 1
