"""The mesh's counts, shape and symmetry; and meshes from elsewhere."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import retinaface_tf.mesh
from retinaface_tf.errors import DataError
from retinaface_tf.mesh.files import read_obj, write_obj, write_ply
from retinaface_tf.mesh.topology import load_topology
from retinaface_tf.util.npz import write_npz


@pytest.fixture(scope="module")
def topology():
    return load_topology()


def _neighbours(triangles):
    return Counter(frozenset((t[i], t[(i + 1) % 3])) for t in triangles.tolist() for i in range(3))


def test_it_has_the_papers_counts(topology):
    assert topology.mean.shape == (1103, 3)
    assert topology.triangles.shape == (2110, 3)
    assert np.array_equal(np.unique(topology.triangles), np.arange(1103))


def test_it_is_a_manifold_disc_with_one_boundary(topology):
    beside = _neighbours(topology.triangles)
    assert set(beside.values()) == {1, 2}
    directed = Counter(
        (t[i], t[(i + 1) % 3]) for t in topology.triangles.tolist() for i in range(3)
    )
    assert max(directed.values()) == 1, "wound alike"
    assert len(topology.edges) == len(beside)
    assert 1103 - len(beside) + 2110 == 1, "Euler's characteristic of a disc"
    boundary = [edge for edge in directed if edge[::-1] not in directed]
    following = dict(boundary)
    assert len(following) == len(boundary) == 94
    at, seen = next(iter(following)), set()
    while at not in seen:
        seen.add(at)
        at = following[at]
    assert len(seen) == 94, "one loop"
    # Around every vertex the triangles form one fan: a vertex with two would have more neighbours.
    faces_of = Counter(topology.triangles.ravel().tolist())
    neighbours = Counter(topology.edges.ravel().tolist())
    assert all(
        neighbours[v] == faces_of[v] + (v in following) for v in range(topology.num_vertices)
    )


def test_no_triangle_is_degenerate(topology):
    for coordinates in (topology.mean, topology.uv):
        a, b, c = (coordinates[topology.triangles[:, i]].astype(np.float64) for i in range(3))
        if coordinates.shape[1] == 2:
            area = np.abs((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]) / 2
        else:
            area = np.linalg.norm(np.cross(b - a, c - a), axis=-1) / 2
        assert area.min() > 1e-6 and area.min() > 2e-4 * np.median(area)


def test_the_mirrored_mesh_is_the_same_mesh(topology):
    mirror = topology.mirror
    assert np.array_equal(mirror[mirror], np.arange(1103))
    flipped = topology.flip(topology.mean) * [-1, 1, 1]
    np.testing.assert_allclose(flipped, topology.mean, atol=1e-6)
    np.testing.assert_allclose(1 - topology.uv[mirror, 0], topology.uv[:, 0], atol=1e-5)
    have = {frozenset(t) for t in topology.triangles.tolist()}
    assert {frozenset(t) for t in mirror[topology.triangles].tolist()} == have


def test_the_68_points_mirror_as_ibug_numbers_them(topology):
    mirror = topology.mirror
    pairs = {0: 16, 8: 8, 17: 26, 21: 22, 27: 27, 30: 30, 31: 35, 33: 33, 36: 45, 37: 44, 39: 42}
    pairs |= {
        40: 47,
        41: 46,
        48: 54,
        51: 51,
        57: 57,
        58: 56,
        59: 55,
        60: 64,
        62: 62,
        66: 66,
        67: 65,
    }
    assert {a: mirror[a] for a in pairs} == pairs
    assert set(mirror[:68]) == set(range(68))


def test_the_68_points_lie_where_a_face_has_them(topology):
    x, y, z = topology.mean[:68].T
    assert np.allclose(topology.mean[30], 0)
    assert (np.diff(x[:17]) > 0).all() and y[:17].argmax() == 8, "jaw from ear to ear over the chin"
    assert (np.diff(x[17:27]) > 0).all() and y[17:27].max() < y[36:48].min(), "brows above eyes"
    assert (np.diff(y[27:31]) > 0).all() and z[30] < z[27], "down the nose, the tip foremost"
    assert y[31:36].max() < y[48:68].min(), "nose above mouth"
    assert y[62] <= y[66] and y[51] < y[62] and y[66] < y[57], "lips in order"
    assert (x[36:42] < 0).all() and (x[42:48] > 0).all()


def test_triangles_face_the_viewer(topology):
    a, b, c = (topology.mean[topology.triangles[:, i]] for i in range(3))
    normals = np.cross(b - a, c - a)
    assert (normals[:, 2] < 0).mean() > 0.95


def test_texture_coordinates_never_fold(topology):
    a, b, c = (topology.uv[topology.triangles[:, i]].astype(np.float64) for i in range(3))
    turning = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    assert (turning < 0).all()
    assert topology.uv.min() >= 0 and topology.uv.max() <= 1


def test_the_map_from_468_points_mixes_them(topology, rng):
    points = rng.normal(size=(2, 468, 3))
    vertices = topology.from_mediapipe(points)
    assert vertices.shape == (2, 1103, 3) and vertices.dtype == np.float32
    for v in (0, 1, 30, 500, 1102):
        expected = sum(
            float(w) * points[:, p]
            for p, w in zip(topology.source_points[v], topology.source_weights[v])
        )
        np.testing.assert_allclose(vertices[:, v], expected, atol=1e-5)
    assert topology.source_weights.min() >= 0
    np.testing.assert_allclose(topology.source_weights.sum(axis=1), 1, atol=1e-6)


def test_it_says_what_it_was_made_from(topology):
    assert "MediaPipe" in topology.provenance["tessellation"]
    assert len(topology.provenance["wheel_sha256"]) == 64


def test_a_file_like_ours_is_read(topology, tmp_path):
    path = Path(retinaface_tf.mesh.__file__).parent / "topology.npz"
    again = load_topology(path)
    assert again.name == str(path) and again.nose_tip == 30
    for name in ("triangles", "mean", "mirror", "uv", "source_points", "source_weights"):
        assert np.array_equal(getattr(again, name), getattr(topology, name))
    write_npz(tmp_path / "other.npz", {"cells": np.zeros(3)}, {}, key="provenance")
    with pytest.raises(DataError, match="is not a mesh topology"):
        load_topology(tmp_path / "other.npz")


def test_another_mesh_from_an_obj_file(topology, tmp_path):
    write_obj(tmp_path / "face.obj", topology.mean, topology.triangles, topology.uv)
    again = load_topology(tmp_path / "face.obj")
    assert np.array_equal(again.triangles, topology.triangles)
    np.testing.assert_allclose(
        again.mean[0] - again.mean[1], (topology.mean[0] - topology.mean[1]), atol=2e-4
    )
    np.testing.assert_allclose(again.uv, topology.uv, atol=2e-5)
    assert np.array_equal(again.mirror, topology.mirror)


def test_the_shared_canonical_mesh_can_be_used(data):
    mesh = load_topology(data / "topology/mediapipe_canonical_face_model.obj")
    assert (mesh.num_vertices, len(mesh.triangles)) == (468, 898)
    assert mesh.uv.shape == (468, 2)


def test_a_file_that_is_no_mesh_is_named(tmp_path):
    for name, content in (("a.npz", b"no"), ("a.obj", b"v 1 2 x\n"), ("b.obj", b"v 1 2 3\n")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=name):
            load_topology(tmp_path / name)
    with pytest.raises(DataError, match=r"nothing\.npz"):
        load_topology(tmp_path / "nothing.npz")


def test_ply_holds_the_mesh(topology, tmp_path):
    write_ply(tmp_path / "face.ply", topology.mean, topology.triangles)
    content = (tmp_path / "face.ply").read_bytes()
    header, body = content.split(b"end_header\n", 1)
    assert b"element vertex 1103" in header and b"element face 2110" in header
    assert len(body) == 1103 * 12 + 2110 * 13
    first = np.frombuffer(body, "<f4", 3)
    np.testing.assert_allclose(first, topology.mean[0] * [1, -1, -1])


def test_obj_reading_counts_from_one_and_from_the_end(tmp_path):
    (tmp_path / "quad.obj").write_text("v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nf 1 2 3 -1\n")
    points, triangles, uv = read_obj(tmp_path / "quad.obj")
    assert triangles.tolist() == [[0, 1, 2], [0, 2, 3]] and uv is None and points.shape == (4, 3)
