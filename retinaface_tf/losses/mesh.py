"""The losses of the dense regression branch (CVPR 2020, section 3.3)."""

from __future__ import annotations

from keras import ops


def vertex_loss(vertices, target):
    """L_vert: mean over vertices of the L1 distance (sum over x, y, z): [K, V, 3] twice -> [K]."""
    return ops.mean(ops.sum(ops.abs(vertices - target), axis=-1), axis=-1)


def edge_loss(vertices, target, triangles):
    """L_edge: mean over the triangles' 3M edges of the difference in length.

    Args:
        vertices, target: [K, V, 3].
        triangles: int [M, 3]; an edge between two triangles counts twice, as in the paper.

    Returns:
        [K].
    """
    difference = edge_lengths(vertices, triangles) - edge_lengths(target, triangles)
    return ops.mean(ops.abs(difference), axis=-1)


def edge_lengths(vertices, triangles):
    """[K, V, 3] -> [K, 3M]: every triangle's first to second, second to third, third to first."""
    corners = ops.take(vertices, ops.reshape(ops.convert_to_tensor(triangles), (-1,)), axis=1)
    corners = ops.reshape(corners, (-1, len(triangles), 3, 3))
    edges = corners - ops.roll(corners, -1, axis=2)
    # The square root has no slope at 0, where an edge's vertices coincide.
    squared = ops.maximum(ops.sum(edges * edges, axis=-1), 1e-12)
    return ops.reshape(ops.sqrt(squared), (-1, 3 * len(triangles)))


def mesh_loss(vertices, target, triangles, edge_weight: float = 1.0):
    """L_mesh = L_vert + lambda_0 L_edge, of each face: [K]."""
    return vertex_loss(vertices, target) + edge_weight * edge_loss(vertices, target, triangles)
