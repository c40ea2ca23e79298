"""Semi-automatic mesh labels, with a detector and a landmark model that know the answer."""

from __future__ import annotations

import os

import cv2
import numpy as np
import pytest

from retinaface_tf.data.readers.mesh_labels import MeshLabelConfig, disagreement, read_mesh_labels
from retinaface_tf.data.records import pack_images, read_record_images
from retinaface_tf.errors import ConfigError, DataError, WeightsError
from retinaface_tf.faces.faces import Faces
from retinaface_tf.labelling.mesh_labels import label_images
from retinaface_tf.mesh.landmark_model import FaceLandmarkModel, roi_of_face, roi_of_points
from retinaface_tf.mesh.topology import five_of_vertices, load_topology
from retinaface_tf.training.dense_features import held_out_photos

SIDE = 100


class Detector:
    """Finds one face of 50 pixels in every image, at its middle."""

    calls = 0

    def detect(self, image, **settings):
        Detector.calls += 1
        box = np.array([[25, 25, 75, 75]], np.float32)
        mesh = load_topology().mean * 50 + [50, 55, 0]
        points = five_of_vertices(mesh[None].astype(np.float32))[..., :2]
        return Faces(box, np.array([0.9], np.float32), points, image.shape[:2])


class Model:
    """The mean face at the middle; shifted and unsure in dark images."""

    def __call__(self, image, rois):
        topology = load_topology()
        points = np.zeros((len(rois), 468, 3), np.float32)
        own = topology.source_weights[:, 0] == 1
        points[:, topology.source_points[own, 0]] = topology.mean[own] * 50 + [50, 55, 7]
        dark = image.mean() < 50
        points[..., 0] += 12.0 * dark
        return points, np.full(len(rois), 0.3 if image.mean() < 20 else 0.99, np.float32)


@pytest.fixture
def photos(tmp_path):
    paths = []
    for i, grey in enumerate((200, 150, 40, 10, 220)):
        path = tmp_path / f"{i}.png"
        cv2.imwrite(str(path), np.full((SIDE, SIDE, 3), grey, np.uint8))
        paths.append(path)
    (tmp_path / "broken.png").write_bytes(b"no image")
    return [*paths, tmp_path / "broken.png"]


CONFIG = MeshLabelConfig(per_part=2)


def _label(photos, folder, config=CONFIG):
    label_images(photos, folder, Detector(), Model(), load_topology(), config)


def test_vertices_are_the_mixtures_and_depth_counts_from_the_nose(photos, tmp_path):
    _label(photos, tmp_path / "labels")
    labels = read_mesh_labels(tmp_path / "labels")
    assert len(labels) == 5 and len(labels.images) == 6
    topology = load_topology()
    expected = topology.mean * 50 + np.array([50, 55, 0], np.float32)
    # All 468 points are vertices, so the map reproduces the mean face everywhere.
    np.testing.assert_allclose(labels.vertices[0], expected, atol=0.01)
    assert abs(labels.vertices[0, topology.nose_tip, 2]) < 1e-5


def test_filters_drop_the_unsure_and_the_contradicting(photos, tmp_path):
    _label(photos, tmp_path / "labels")
    labels = read_mesh_labels(tmp_path / "labels", CONFIG)
    assert [labels.images[i].split("/")[-1] for i in labels.image] == ["0.png", "1.png", "4.png"]


def test_disagreement_is_the_mean_distance_over_the_face():
    mesh = load_topology().mean[None] * 50
    points = five_of_vertices(mesh)[..., :2] + [3.0, 4.0]
    assert disagreement(mesh, points, np.array([[0, 0, 25, 100.0]])) == pytest.approx([0.1])


def test_a_stopped_run_goes_on(photos, tmp_path):
    folder = tmp_path / "labels"
    _label(photos, folder)
    first = read_mesh_labels(folder)
    (folder / "part-00001.npz").unlink()
    Detector.calls = 0
    _label(photos, folder)
    assert Detector.calls == 2, "only the missing part's images"
    again = read_mesh_labels(folder)
    np.testing.assert_array_equal(again.vertices, first.vertices)
    (folder / "part-00000.npz").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"part-00000\.npz"):
        read_mesh_labels(folder)


def test_labels_of_other_photos_are_not_replaced(photos, tmp_path):
    folder = tmp_path / "labels"
    _label(photos, folder)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ConfigError, match=r"part-00001\.npz holds labels of other .* --overwrite"):
        _label(photos[:3], folder)
    with pytest.raises(ConfigError, match=r"part-00000\.npz holds labels of other"):
        _label(photos, folder, MeshLabelConfig(per_part=2, threshold=0.5))
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    Detector.calls = 0
    topology = load_topology()
    label_images(photos[:3], folder, Detector(), Model(), topology, CONFIG, overwrite=True)
    assert Detector.calls == 1, "the part that is the same is kept"
    assert sorted(path.name for path in folder.iterdir()) == ["part-00000.npz", "part-00001.npz"]
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be made"):
        _label(photos, tmp_path / "file")


def test_names_that_are_no_utf8_are_labelled(photos, tmp_path):
    path = photos[0].rename(tmp_path / os.fsdecode(b"\xff\xe9.png"))
    _label([path], tmp_path / "labels")
    (image,) = read_mesh_labels(tmp_path / "labels").annotated()
    assert image.path == path


def test_records_carry_the_vertices(photos, tmp_path):
    _label(photos, tmp_path / "labels")
    labels = read_mesh_labels(tmp_path / "labels", CONFIG)
    images = labels.annotated()
    pack_images(images, tmp_path / "shards")
    read, _ = read_record_images(tmp_path / "shards")
    assert len(read) == 3
    for one, other in zip(images, read):
        np.testing.assert_array_equal(one.vertices, other.vertices)
        assert other.keep(np.array([0])).vertices.shape == (1, 1103, 3)


def test_held_out_photos_depend_on_their_name_alone():
    names = [f"photo{i}.jpg" for i in range(4000)]
    apart = held_out_photos(names, 0.1)
    assert 0.08 < apart.mean() < 0.12
    assert np.array_equal(held_out_photos([f"/else/{n}" for n in names[::-1]], 0.1)[::-1], apart)


def test_squares_are_level_with_the_eyes():
    points = np.array([[10, 10], [30, 30], [20, 30], [10, 40], [20, 50]], np.float32)
    roi = roi_of_face(np.array([0, 0, 40, 60]), points)
    assert roi.center == (20, 30) and roi.side == 90 and roi.angle == pytest.approx(np.pi / 4)
    mesh = np.zeros((468, 3))
    mesh[:, :2] = [[5, 5]]
    mesh[33, :2], mesh[263, :2], mesh[152, :2] = (0, 0), (10, 0), (5, 20)
    roi = roi_of_points(mesh)
    assert roi.angle == 0 and roi.side == 30 and roi.center == (5, 10)


def test_a_model_that_is_missing_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"nothing\.tflite"):
        FaceLandmarkModel(tmp_path / "nothing.tflite")
