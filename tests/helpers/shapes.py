"""Small meshes for tests: a sphere and an open, face-like bowl, both symmetric in x; and their turns."""

import numpy as np
import pytest


def rotation_of_angles(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """[3, 3] of a head's angles in radians, by scipy: what `mesh.pose.euler_angles` reads."""
    transform = pytest.importorskip("scipy.spatial.transform", reason="needs SciPy")
    return transform.Rotation.from_euler("XYZ", (-pitch, yaw, roll)).as_matrix()


def icosphere(subdivisions: int):
    """Unit sphere: vertices [V, 3] and outward triangles [T, 3] (y up: counter-clockwise)."""
    t = (1 + 5**0.5) / 2
    vertices = [
        *((-1, t, 0), (1, t, 0), (-1, -t, 0), (1, -t, 0), (0, -1, t), (0, 1, t)),
        *((0, -1, -t), (0, 1, -t), (t, 0, -1), (t, 0, 1), (-t, 0, -1), (-t, 0, 1)),
    ]
    triangles = [
        *((0, 11, 5), (0, 5, 1), (0, 1, 7), (0, 7, 10), (0, 10, 11), (1, 5, 9), (5, 11, 4)),
        *((11, 10, 2), (10, 7, 6), (7, 1, 8), (3, 9, 4), (3, 4, 2), (3, 2, 6), (3, 6, 8)),
        *((3, 8, 9), (4, 9, 5), (2, 4, 11), (6, 2, 10), (8, 6, 7), (9, 8, 1)),
    ]
    vertices = [np.array(v) / np.linalg.norm(v) for v in vertices]
    for _ in range(subdivisions):
        middles = {}
        for a, b, c in triangles:
            for i, j in ((a, b), (b, c), (c, a)):
                if (min(i, j), max(i, j)) not in middles:
                    middles[min(i, j), max(i, j)] = len(vertices)
                    point = vertices[i] + vertices[j]
                    vertices.append(point / np.linalg.norm(point))
        finer = []
        for a, b, c in triangles:
            ab, bc, ca = (middles[min(e), max(e)] for e in ((a, b), (b, c), (c, a)))
            finer += [(a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca)]
        triangles = finer
    return np.array(vertices), np.array(triangles)


def open_bowl(subdivisions: int = 3):
    """The front of a sphere (z towards the viewer is negative), open behind, slightly long."""
    vertices, triangles = icosphere(subdivisions)
    front = (vertices[triangles][..., 2] < 0.3).all(1)
    kept = np.unique(triangles[front])
    position = np.full(len(vertices), -1)
    position[kept] = np.arange(len(kept))
    return vertices[kept] * (0.8, 1.1, 0.7), position[triangles[front]]


def mirror_of(vertices):
    """The vertex at (-x, y, z) of each."""
    flipped = vertices * (-1, 1, 1)
    distance = ((flipped[:, None] - vertices[None]) ** 2).sum(-1)
    assert distance.min(1).max() < 1e-18
    return distance.argmin(1)
