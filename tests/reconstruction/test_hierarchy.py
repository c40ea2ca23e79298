"""Simplification keeps a fair, symmetric mesh; up-sampling is exact where it can be."""

import numpy as np
import pytest

from retinaface_tf.errors import DataError
from retinaface_tf.reconstruction.hierarchy import build_hierarchy, closest_points
from retinaface_tf.reconstruction.simplify import simplify
from tests.helpers.shapes import icosphere, mirror_of, open_bowl


def edge_uses(triangles):
    edges = np.sort(triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    return np.unique(edges, axis=0, return_counts=True)


@pytest.mark.parametrize("shape", [icosphere(3), open_bowl()])
def test_every_level_is_manifold_and_symmetric(shape):
    vertices, triangles = shape
    closed = (edge_uses(triangles)[1] == 2).all()
    for level in build_hierarchy(vertices, triangles, 3, 4, mirror_of(vertices))[1:]:
        _, uses = edge_uses(level.triangles)
        assert uses.max() <= 2 and (uses == 2).all() == closed
        corners = level.vertices[level.triangles]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        assert np.linalg.norm(normals, axis=1).min() > 1e-3
        assert len(np.unique(level.triangles)) == len(level.vertices)
        mirror = mirror_of(level.vertices)
        assert {frozenset(t) for t in level.triangles} == {
            frozenset(mirror[t]) for t in level.triangles
        }


def test_levels_shrink_by_the_factor():
    vertices, triangles = icosphere(3)
    sizes = [len(level.vertices) for level in build_hierarchy(vertices, triangles, 4, 4)]
    assert sizes == [642, 161, 41, 11]


def test_a_coarse_sphere_is_still_a_sphere():
    """Volume by the divergence theorem: 161 points on the unit sphere hold 95 % of it."""
    vertices, triangles = icosphere(3)
    level = build_hierarchy(vertices, triangles, 2, 4)[1]
    volume = np.linalg.det(level.vertices[level.triangles]).sum() / 6
    assert 0.93 < volume / (4 / 3 * np.pi) < 1


def test_upsampling_rows_are_barycentric():
    vertices, triangles = open_bowl()
    fine, coarse = build_hierarchy(vertices, triangles, 2)
    assert coarse.up.weights.shape == (len(vertices), 3)
    assert coarse.up.weights.min() >= 0
    np.testing.assert_allclose(coarse.up.weights.sum(1), 1, atol=1e-14)
    taken = (
        coarse.up.weights[coarse.kept][..., None] * coarse.vertices[coarse.up.columns[coarse.kept]]
    ).sum(1)
    np.testing.assert_array_equal(taken, fine.vertices[coarse.kept])


def test_upsampling_is_exact_for_linear_fields_on_a_plane(rng):
    """Where the nearest surface point is the vertex itself, any linear field comes back."""
    grid = np.stack(np.meshgrid(np.linspace(-1, 1, 15), np.linspace(-1, 1, 15)), -1).reshape(-1, 2)
    grid[:] += 0.02 * rng.normal(size=grid.shape) * (np.abs(grid).max(1) < 0.99)[:, None]
    from scipy.spatial import Delaunay

    vertices = np.append(grid, np.zeros((225, 1)), axis=1)
    coarse = build_hierarchy(vertices, Delaunay(grid).simplices, 2)[1]
    field = vertices @ rng.normal(size=(3, 4)) + rng.normal(size=4)
    up = (coarse.up.weights[..., None] * field[coarse.kept][coarse.up.columns]).sum(1)
    np.testing.assert_allclose(up, field, atol=1e-12)


def test_closest_points_against_dense_sampling(rng):
    """No point of a triangle, sampled finely, is nearer than the one found."""
    corners = rng.normal(size=(5, 3, 3))
    points = rng.normal(size=(40, 3)) * 2
    triangle, weights = closest_points(points, corners)
    place = (weights[..., None] * corners[triangle]).sum(1)
    found = np.linalg.norm(points - place, axis=1)
    s, t = np.meshgrid(np.linspace(0, 1, 101), np.linspace(0, 1, 101))
    inside = s + t <= 1 + 1e-9
    grid = np.stack([1 - s - t, s, t], -1)[inside] @ corners
    sampled = np.linalg.norm(points[:, None, None] - grid, axis=-1).min((1, 2))
    assert (found <= sampled + 1e-9).all() and (found >= sampled - 0.05).all()


def test_a_mesh_that_cannot_shrink_further_says_so():
    vertices, triangles = icosphere(0)
    with pytest.raises(DataError, match="simplified below"):
        simplify(vertices, triangles, 2)
