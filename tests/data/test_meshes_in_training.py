"""Vertices on their way through sources, records, augmentation and batches."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.data.augment import load_and_augment
from retinaface_tf.data.options import AugmentConfig
from retinaface_tf.data.pipeline import TrainingPipeline
from retinaface_tf.data.readers.annotation import AnnotatedImage
from retinaface_tf.data.readers.mesh_labels import MeshLabelConfig, join_meshes, read_mesh_labels
from retinaface_tf.data.records import RecordSource, pack_images
from retinaface_tf.data.sources import EpochSlice, LabelledSource
from retinaface_tf.errors import DataError
from retinaface_tf.mesh.topology import five_of_vertices, load_topology
from tests.helpers.meshed_faces import meshed_image, write_mesh_labels

EVERYTHING = AugmentConfig(crop_scale=(0.6, 1.6), flip=0.5, rotate=0.5)
PART = EpochSlice(seed=1, epoch=0, steps=1, batch=3, end=3)


@pytest.fixture(scope="module")
def drawn():
    """Two with a mesh on the first of two faces, one without any."""
    pairs = [meshed_image(number) for number in range(3)]
    bare = pairs[2][1]
    pairs[2] = pairs[2][0], AnnotatedImage(bare.path, bare.boxes, bare.landmarks)
    return pairs


def test_vertices_move_with_the_landmarks_of_their_face(drawn):
    """Through every crop, size, flip and turn the mesh's five points stay the labelled ones."""
    encoded, image = drawn[0]
    moved = set()
    for seed in range(24):
        scene = load_and_augment(
            encoded,
            image.boxes[:1],
            image.landmarks[:1],
            image.ignored[:1],
            tf.constant([seed, 4]),
            160,
            EVERYTHING,
            vertices=image.vertices[:1],
            mirror=load_topology().mirror,
        )
        if not len(scene.boxes):
            continue
        points = scene.landmarks.numpy()[0]
        five = five_of_vertices(scene.vertices.numpy()[0])
        np.testing.assert_allclose(five[:, :2], points, atol=1e-3)
        # Depth is in the same pixels.
        size, own = (
            np.linalg.norm(p[:2].mean(axis=0) - p[3:].mean(axis=0))
            for p in (points, image.landmarks[0])
        )
        depth = np.ptp(scene.vertices.numpy()[0, :, 2]) / np.ptp(image.vertices[0, :, 2])
        assert depth == pytest.approx(size / own, rel=1e-3)
        moved.add(tuple(np.sign(points[1] - points[0]).astype(int)))
    assert len(moved) >= 4, "flips and turns must have happened"


def test_sources_give_each_face_its_mesh_or_none(drawn, tmp_path):
    images = []
    for encoded, image in drawn:
        path = tmp_path / image.path
        path.write_bytes(encoded)
        images.append(AnnotatedImage(path, image.boxes, image.landmarks, None, image.vertices))
    pack_images(images, tmp_path / "packed", per_shard=1)
    packed = RecordSource(tmp_path / "packed")
    for source in (LabelledSource(images), packed):
        assert source.vertices == 1103
        seen = {int(e["image_id"]): e["vertices"].numpy() for e in source.examples(PART)}
        for number, image in enumerate(images):
            expected = np.full((2, 1103, 3), np.nan) if number == 2 else image.vertices
            np.testing.assert_array_equal(seen[number], expected)
    assert LabelledSource(images[2:]).vertices == 0
    other = AnnotatedImage("other.jpg", images[0].boxes, vertices=np.zeros((2, 7, 3)))
    with pytest.raises(DataError, match="7 and of 1103"):
        LabelledSource([images[0], other])


def test_batches_carry_the_meshes_there_are(drawn):
    source = LabelledSource([p[1] for p in drawn], [p[0] for p in drawn])
    options = {"size": 96, "batch": 3, "augment": AugmentConfig(crop_scale=(1, 1), flip=0)}
    network = RetinaFaceConfig()
    pipeline = TrainingPipeline(source, network, topology=load_topology(), **options)
    batch = {name: value.numpy() for name, value in next(iter(pipeline.epoch(0))).items()}
    assert batch["vertices"].shape == (3, 1, 1103, 3)
    for place, number in enumerate(batch["image_id"]):
        rows = [-1, -1] if number == 2 else [0, -1]
        assert batch["meshes"][place].tolist() == rows
        positive = batch["labels"][place] == 1
        assert ((batch["faces"][place] >= 0) == positive).all()
        if number != 2:
            expected = drawn[number][1].vertices[0]
            np.testing.assert_allclose(batch["vertices"][place, 0], expected, atol=1e-3)
    plain = next(iter(TrainingPipeline(source, network, **options).epoch(0)))
    assert "vertices" not in plain
    np.testing.assert_array_equal(plain["image"], batch["image"])


def test_mesh_labels_join_the_faces_at_their_places(tmp_path):
    labels = read_mesh_labels(write_mesh_labels(tmp_path, 2), MeshLabelConfig())
    known = meshed_image(1)[1]
    # Annotators' boxes go up to the crown, and the order of the faces is another.
    boxes = known.boxes[::-1] - np.float32([0, 8, 0, 0])
    images = [
        AnnotatedImage(tmp_path / "1.jpg", boxes),
        AnnotatedImage(tmp_path / "else.jpg", boxes),
    ]
    joined, other = join_meshes(images, labels)
    assert joined.has_mesh.tolist() == [False, True] and not other.has_mesh.any()
    np.testing.assert_array_equal(joined.vertices[1], known.vertices[0])
    with pytest.raises(DataError, match="other images"):
        join_meshes(images[1:], labels)


def test_faces_that_failed_the_filters_are_ignored(tmp_path):
    labels = read_mesh_labels(write_mesh_labels(tmp_path, 2))
    for image in labels.annotated(labels.good(MeshLabelConfig())):
        assert image.ignored.tolist() == [False, True]
        assert image.has_mesh.tolist() == [True, False]
