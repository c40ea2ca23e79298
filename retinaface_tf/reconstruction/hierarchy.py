"""Coarse meshes under a fine one, and the sparse matrices that carry features between them.

Built once with numpy, deterministic; the mesh decoder holds the result as constants.
"""

from dataclasses import dataclass

import numpy as np

from retinaface_tf.errors import ConfigError
from retinaface_tf.reconstruction.simplify import simplify
from retinaface_tf.reconstruction.sparse_rows import SparseRows


@dataclass(frozen=True, eq=False)
class MeshLevel:
    """One mesh of a hierarchy.

    Attributes:
        vertices: float64 [V, 3].
        triangles: int [T, 3].
        kept: int [V], which vertices of the next finer level these are; None on the finest.
        up: barycentric rows [V_finer, V] from this level to the next finer one; None on the finest.
    """

    vertices: np.ndarray
    triangles: np.ndarray
    kept: np.ndarray | None = None
    up: SparseRows | None = None


def build_hierarchy(
    vertices: np.ndarray,
    triangles: np.ndarray,
    levels: int = 4,
    factor: float = 4.0,
    mirror: np.ndarray | None = None,
) -> list[MeshLevel]:
    """Meshes from fine to coarse, each with `factor` times fewer vertices than the one before.

    Args:
        vertices: float [V, 3].
        triangles: int [T, 3], manifold.
        levels: how many, the given one included.
        factor: of the numbers of vertices, above 1.
        mirror: int [V], the permutation of the plane of symmetry; every level is then symmetric.

    Raises:
        ConfigError: levels or factor cannot be.
        DataError: the mesh cannot be simplified so far.
    """
    if levels < 1 or factor <= 1:
        raise ConfigError(f"A hierarchy of {levels} levels by factor {factor} is not possible.")
    finest = MeshLevel(np.asarray(vertices, np.float64), np.asarray(triangles, np.int64))
    chain = [finest]
    for _ in range(levels - 1):
        fine = chain[-1]
        kept, coarse = simplify(
            fine.vertices, fine.triangles, int(np.ceil(len(fine.vertices) / factor)), mirror
        )
        chain.append(
            MeshLevel(fine.vertices[kept], coarse, kept, upsampling(fine.vertices, kept, coarse))
        )
        if mirror is not None:
            position = np.full(len(mirror), -1)
            position[kept] = np.arange(len(kept))
            mirror = position[mirror[kept]]
    return chain


def upsampling(vertices: np.ndarray, kept: np.ndarray, triangles: np.ndarray) -> SparseRows:
    """Each fine vertex as a blend of three coarse ones: those around its nearest surface point.

    Args:
        vertices: float [V, 3] of the fine mesh.
        kept: int [V'], which of them the coarse mesh has.
        triangles: int [T', 3] of the coarse mesh.

    Returns:
        Rows [V, V'] of three weights, not negative and of sum 1; those of kept vertices are 1, 0, 0.
    """
    coarse = np.asarray(vertices, np.float64)[kept]
    nearest, weights = closest_points(vertices, coarse[triangles])
    columns = triangles[nearest].astype(np.int32)
    columns[kept] = np.arange(len(kept))[:, None]
    weights[kept] = (1.0, 0.0, 0.0)
    return SparseRows(columns, weights)


def closest_points(points: np.ndarray, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each point the nearest of some triangles and the nearest place on it.

    Args:
        points: float [N, 3].
        corners: float [T, 3, 3], the triangles' corners; memory is N x T numbers.

    Returns:
        triangle: int [N].
        weights: float64 [N, 3], barycentric coordinates of the nearest place.
    """
    points = np.asarray(points, np.float64)[:, None]
    a, b, c = (corners[None, :, i] for i in range(3))
    # Inside the triangle: the foot of the perpendicular, where it exists.
    ab, ac, ap = b - a, c - a, points - a
    d00, d01, d11 = (ab * ab).sum(-1), (ab * ac).sum(-1), (ac * ac).sum(-1)
    d20, d21 = (ap * ab).sum(-1), (ap * ac).sum(-1)
    area = np.maximum(d00 * d11 - d01 * d01, 1e-300)
    v = (d11 * d20 - d01 * d21) / area
    w = (d00 * d21 - d01 * d20) / area
    best = np.stack([1 - v - w, v, w], -1)
    best_distance = np.where((best >= 0).all(-1), _squared(points, best, a, b, c), np.inf)
    # Else on one of the edges.
    for first, second, start, end in ((0, 1, a, b), (1, 2, b, c), (2, 0, c, a)):
        along = end - start
        length = np.maximum((along * along).sum(-1), 1e-300)
        t = np.clip(((points - start) * along).sum(-1) / length, 0, 1)
        weights = np.zeros_like(best)
        weights[..., first], weights[..., second] = 1 - t, t
        distance = _squared(points, weights, a, b, c)
        closer = distance < best_distance
        best_distance = np.where(closer, distance, best_distance)
        best = np.where(closer[..., None], weights, best)
    triangle = best_distance.argmin(1)
    return triangle, best[np.arange(len(triangle)), triangle]


def _squared(points, weights, a, b, c):
    place = weights[..., :1] * a + weights[..., 1:2] * b + weights[..., 2:] * c
    return ((points - place) ** 2).sum(-1)
