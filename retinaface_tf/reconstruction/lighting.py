"""The illumination of the dense branch: a point light and ambient light, on a matt surface.

1905.00641, section 3.2: nine numbers, the light's location, its colour and the ambient colour. The
light is placed in the camera's coordinates (`camera`), so turning a head does not turn its light.
"""

from typing import NamedTuple

import numpy as np
from keras import ops

from retinaface_tf.reconstruction.sparse_rows import SparseRows, multiply_rows


class Lighting(NamedTuple):
    """Of each of B faces.

    Attributes:
        position: [B, 3] of the point light, in the camera's coordinates.
        color: [B, 3] RGB of the point light; 1 shows a surface that faces it in its own colour.
        ambient: [B, 3] RGB.
    """

    position: object
    color: object
    ambient: object


def split_lighting(parameters) -> Lighting:
    """[B, 9] position, colour, ambient -> `Lighting`."""
    return Lighting(parameters[:, :3], parameters[:, 3:6], parameters[:, 6:9])


def incident_triangles(triangles: np.ndarray, vertex_count: int) -> SparseRows:
    """Rows [V, T] that sum what belongs to the triangles around each vertex."""
    from scipy import sparse

    entries = (
        np.ones(triangles.size),
        (triangles.ravel(), np.repeat(np.arange(len(triangles)), 3)),
    )
    return SparseRows.from_sparse(
        sparse.coo_array(entries, shape=(vertex_count, len(triangles))).tocsr()
    )


def vertex_normals(vertices, triangles: np.ndarray, incident: SparseRows):
    """Unit normals [B, V, 3]: means of the adjoining triangles' normals, weighted by area.

    Args:
        vertices: [B, V, 3].
        triangles: int [T, 3]; a normal points to where they are seen counter-clockwise (with y
            down, as in `camera`: to where (b - a) x (c - a) points).
        incident: `incident_triangles`.
    """
    corners = [ops.take(vertices, ops.convert_to_tensor(c, "int32"), axis=1) for c in triangles.T]
    normals = ops.cross(corners[1] - corners[0], corners[2] - corners[0])
    summed = multiply_rows(incident, normals)
    return summed / ops.sqrt(ops.sum(summed * summed, axis=-1, keepdims=True) + 1e-20)


def shade(albedo, vertices, normals, lighting: Lighting):
    """Lambert's law: albedo times (ambient + colour max(0, normal . direction to the light)).

    Args:
        albedo: [B, V, 3] RGB of the surface.
        vertices, normals: [B, V, 3], in the camera's coordinates.
        lighting: of each face.

    Returns:
        [B, V, 3] RGB, not clipped.
    """
    to_light = lighting.position[:, None] - vertices
    to_light = to_light / ops.sqrt(ops.sum(to_light * to_light, axis=-1, keepdims=True) + 1e-20)
    facing = ops.relu(ops.sum(normals * to_light, axis=-1, keepdims=True))
    return albedo * (lighting.ambient[:, None] + lighting.color[:, None] * facing)
