"""Quality and pose of faces, held against drawn heads, blurred copies, another implementation and labels."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
from PIL import Image

from retinaface_tf.faces.faces import Faces
from retinaface_tf.faces.quality import blur_effect
from retinaface_tf.geometry.similarity import rotation_matrix
from retinaface_tf.mesh.topology import five_of_vertices, load_topology


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Turned by roll about z, then yaw about y, then pitch about x, as AFLW2000-3D has it; image axes."""
    vectors = np.radians([[pitch, 0, 0], [0, yaw, 0], [0, 0, roll]]) * [[-1], [1], [1]]
    about_x, about_y, about_z = rotation_matrix(vectors)
    return about_x @ about_y @ about_z


def seen(*angles: float, at=(200.0, 160.0), side=120.0) -> np.ndarray:
    """Where the mean face's five points are seen, [5, 2]."""
    five = five_of_vertices(load_topology().mean) @ rotation(*angles).T
    return side * five[:, :2] + at


def one_face(points=None, box=(130, 90, 270, 240), size=(320, 400)) -> Faces:
    points = seen(0, 0, 0) if points is None else points
    array = [np.array([v], np.float32) for v in (box, 0.9, points)]
    return Faces(*array, image_size=size)


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """Fine and coarse texture of middle brightness, 320 x 400."""
    rng = np.random.default_rng(0)
    layers = [rng.normal(size=(320 // s + 1, 400 // s + 1, 3)) for s in (1, 4, 16)]
    layers = [cv2.resize(layer, (400, 320), interpolation=cv2.INTER_CUBIC) for layer in layers]
    return np.clip(128 + 25 * np.sum(layers, axis=0), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    "angles", [(0, 0, 0), (30, 0, 0), (-50, 5, 10), (0, 20, 0), (10, -25, -30)]
)
def test_pose_from_the_points_of_a_turned_head(picture, angles):
    found = one_face(seen(*angles)).quality(picture).pose[0]
    # As the mesh's pose has it: the same head's vertices.
    vertices = (load_topology().mean @ rotation(*angles).T)[None].astype(np.float32)
    meshed = dataclasses.replace(one_face(), vertices=vertices).pose[0]
    np.testing.assert_allclose(found, meshed, atol=1)
    np.testing.assert_allclose(np.abs(found), np.abs(angles), atol=1)


def test_a_mesh_says_the_pose_where_there_is_one(picture):
    vertices = (load_topology().mean @ rotation(40, 0, 0).T)[None].astype(np.float32)
    faces = dataclasses.replace(one_face(), vertices=vertices)
    np.testing.assert_array_equal(faces.quality(picture).pose, faces.pose)


def test_blurred_copies_rank_in_order(picture):
    faces = one_face()
    copies = [picture, *(cv2.GaussianBlur(picture, (0, 0), sigma) for sigma in (1, 2, 4, 8))]
    found = [faces.quality(copy) for copy in copies]
    for name in ("sharpness", "figure"):
        values = [float(getattr(quality, name)[0]) for quality in found]
        assert all(a > b for a, b in zip(values, values[1:])), (name, values)
    assert 0 < found[-1].figure[0] < 0.5 < found[0].figure[0] <= 1


def test_the_blur_effect_is_scikit_images(picture):
    measure = pytest.importorskip("skimage.measure")
    for sigma in (0.1, 1, 3):
        grey = cv2.GaussianBlur(picture[..., 0], (0, 0), sigma)
        assert blur_effect(grey) == pytest.approx(measure.blur_effect(grey), abs=0.01)
    assert blur_effect(np.zeros((20, 20), np.uint8)) == 1


def test_each_fault_lowers_the_figure(picture):
    good = one_face().quality(picture).figure[0]
    dark, bright = (
        (picture * 0.1).astype(np.uint8),
        np.clip(picture + 110.0, 0, 255).astype(np.uint8),
    )
    assert one_face().quality(dark).figure[0] < good and one_face().quality(bright).figure[0] < good
    turned = one_face(seen(60, 0, 0)).quality(picture)
    assert turned.figure[0] < 0.6 * good
    small = one_face(seen(0, 0, 0, at=(200, 160), side=20), (190, 150, 212, 172))
    assert small.quality(picture).figure[0] < 0.5 * good
    cut = one_face(box=(130, 90, 270, 320)).quality(picture)
    assert cut.cut_off[0] and cut.figure[0] == pytest.approx(good / 2, rel=0.1)


def test_no_face_and_unknown_points(picture):
    none = Faces.empty((320, 400)).quality(picture)
    assert none.figure.shape == (0,) and none.pose.shape == (0, 3)
    unknown = one_face(np.full((5, 2), np.nan)).quality(picture)
    assert np.isnan(unknown.pose).all() and np.isfinite(unknown.figure).all()
    assert "pose" not in unknown.entry(0)


def test_pose_agrees_with_labels_of_photos(data):
    """AFLW2000-3D: yaw and roll of its own points; its labels are of a fit to the whole head."""
    folder = data / "aflw2000_samples"
    loadmat = pytest.importorskip("scipy.io").loadmat
    errors = []
    for file in sorted(folder.glob("*.mat")):
        labels = loadmat(file)
        points = five_of_vertices(labels["pt3d_68"][:2].T)
        size = Image.open(file.with_suffix(".jpg")).size[::-1]
        box = [*points.min(axis=0), *points.max(axis=0)]
        found = one_face(points, box, size).quality(file.with_suffix(".jpg")).pose[0]
        errors.append(found - np.degrees(labels["Pose_Para"][0, [1, 0, 2]]))
    assert len(errors) == 16
    np.testing.assert_array_less(np.abs(errors).mean(axis=0), [3, 6, 4])
