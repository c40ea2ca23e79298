"""What users do with vertices: slices, JSON, pose, drawings, mesh files."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from retinaface_tf.faces.faces import Faces
from retinaface_tf.geometry.similarity import fit_similarity
from retinaface_tf.mesh.face_mesh import write_face_mesh
from retinaface_tf.mesh.files import read_obj
from retinaface_tf.mesh.pose import (
    mean_face_by_pose,
    mean_face_by_similarity,
    mean_face_in_box,
)
from retinaface_tf.mesh.topology import five_of_vertices, load_topology
from tests.helpers.shapes import rotation_of_angles


@pytest.fixture
def faces():
    """Two faces of 60 pixels, the second turned."""
    mean = load_topology().mean.astype(np.float64)
    meshes = [mean * 60 + [50, 60, 0]]
    meshes.append(mean @ rotation_of_angles(*np.radians([30, 10, -20])).T * 60 + [150, 60, 0])
    vertices = np.array(meshes, np.float32)
    low, high = vertices[..., :2].min(axis=1), vertices[..., :2].max(axis=1)
    return Faces(
        np.concatenate([low, high], axis=1),
        np.array([0.9, 0.8], np.float32),
        five_of_vertices(vertices)[..., :2],
        (120, 200),
        vertices,
    )


def test_the_pose_is_read_from_the_vertices(faces):
    np.testing.assert_allclose(faces.pose, [[0, 0, 0], [30, 10, -20]], atol=1e-3)
    assert faces[1].pose == pytest.approx((30, 10, -20), abs=1e-3)
    assert faces[:0].pose.shape == (0, 3)
    plain = Faces(faces.boxes, faces.scores, faces.landmarks, faces.image_size)
    assert plain.pose is None and plain[0].pose is None


def test_json_has_a_mesh_only_where_there_is_one(faces):
    entry = faces.to_dict()["faces"][1]
    assert entry["pose"] == pytest.approx([30, 10, -20], abs=0.01)
    assert len(entry["vertices"]) == 1103 and len(entry["vertices"][0]) == 3
    plain = Faces(faces.boxes, faces.scores, faces.landmarks, faces.image_size)
    assert set(plain.to_dict()["faces"][0]) == {"box", "score", "landmarks"}


def test_drawing_colours_the_mesh_and_nothing_far_from_it(faces):
    image = np.zeros((120, 200, 3), np.uint8)
    plain = Faces(faces.boxes, faces.scores, faces.landmarks, faces.image_size)
    changed = (faces.draw(image) != plain.draw(image)).any(axis=-1)
    assert changed.mean() > 0.05
    x2 = faces.boxes[0, 2]
    assert not changed[:, int(x2) + 3 : int(faces.boxes[1, 0]) - 3].any()


def test_a_mesh_beyond_the_image_is_cut_off(faces):
    image = np.zeros((60, 60, 3), np.uint8)
    assert dataclasses.replace(faces, image_size=(60, 60)).draw(image).shape == image.shape


def test_mesh_files_have_the_axes_of_modelling_programs(faces, tmp_path):
    image = np.full((120, 200, 3), 70, np.uint8)
    for number, vertices in enumerate(faces.vertices):
        for suffix in ("obj", "ply"):
            write_face_mesh(tmp_path / f"photo_{number:03d}.{suffix}", vertices, image, "a photo")
    assert (tmp_path / "photo_001.obj").read_text().startswith("# a photo\n")
    points, triangles, uv = read_obj(tmp_path / "photo_001.obj")
    np.testing.assert_allclose(points, faces.vertices[1] * [1, -1, -1], atol=1e-3)
    assert triangles.shape == (2110, 3) and uv.shape == (1103, 2)
    content = (tmp_path / "photo_000.ply").read_bytes()
    assert content.startswith(b"ply\n") and b"comment a photo" in content[:100]
    assert b"property uchar red" in content[:400]
    assert len(content.split(b"end_header\n", 1)[1]) == 1103 * 15 + 2110 * 13


def test_mean_faces_meet_what_they_are_given(faces):
    mean = load_topology().mean.astype(np.float64)
    five = five_of_vertices(mean)
    inside = mean_face_in_box(mean, faces.boxes[0].astype(np.float64))
    np.testing.assert_allclose(inside[:, :2].min(axis=0), faces.boxes[0, :2], atol=1e-3)
    np.testing.assert_allclose(inside[:, :2].max(axis=0), faces.boxes[0, 2:], atol=1e-3)
    flat = mean_face_by_similarity(mean, five[:, :2], faces.landmarks[0].astype(np.float64))
    np.testing.assert_allclose(flat, faces.vertices[0], atol=1e-2)
    posed = mean_face_by_pose(mean, five, faces.landmarks[1].astype(np.float64))
    error = posed - faces.vertices[1]
    np.testing.assert_allclose(error[:, :2], 0, atol=0.1)


def test_rotations_fit_against_scipy(rng):
    transform = pytest.importorskip("scipy.spatial.transform", reason="needs SciPy")
    points = rng.normal(size=(20, 3))
    turn = transform.Rotation.from_euler("xyz", [0.3, -0.8, 1.1]).as_matrix()
    target = (3 * points @ turn.T + [1, 2, 3])[None]
    np.testing.assert_allclose(fit_similarity(points, target)[1][0], turn, atol=1e-9)
    expected, _ = transform.Rotation.align_vectors(
        target[0] - target[0].mean(axis=0), points - points.mean(axis=0)
    )
    np.testing.assert_allclose(
        fit_similarity(points, target)[1][0], expected.as_matrix(), atol=1e-9
    )
