"""Differentiable rendering of coloured meshes: 1905.00641's R(mesh, camera, illumination).

The z-buffer chooses a triangle for each pixel; the pixel's colour is then a smooth function of that
triangle's corners (barycentric, right in perspective), their colours, the camera and the light. At
silhouettes a choice alone has no gradient, so there the edge itself is drawn: where it crosses the
line between two pixels' centres decides how much of the one pixel's colour the other gets (after
Laine et al. 2020, section 3.5; here the crossings are found by scanning the silhouette's edges, so
triangles narrower than a pixel lose none). Moving an edge thus changes the image smoothly, and
the gradient says which way.

Memory is a few dozen numbers a pixel and never pixels x triangles.
"""

from typing import NamedTuple

import numpy as np
from keras import ops

from retinaface_tf.reconstruction.camera import Camera, posed, project
from retinaface_tf.reconstruction.lighting import (
    Lighting,
    incident_triangles,
    shade,
    vertex_normals,
)
from retinaface_tf.reconstruction.rasterize import (
    PIECE,
    MeshEdges,
    Visibility,
    find_visible,
    neighbours,
)


class Rendering(NamedTuple):
    """Images of B faces.

    Attributes:
        image: [B, S, S, 3] RGB over the background, 1 is white, not clipped.
        coverage: [B, S, S, 1] how much of a pixel the mesh covers, 0..1; has gradients.
        visibility: which triangle and which edge was drawn where.
    """

    image: object
    coverage: object
    visibility: Visibility


class MeshRenderer:
    """Draws meshes of one topology into square crops.

    Args:
        triangles: int [T, 3], counter-clockwise from outside; back faces are not drawn.
        vertex_count: V.
        size: side of the crops in pixels.
        piece: samples rasterised together (`tiles`).

    Raises:
        DataError: an edge has more than two triangles.
    """

    def __init__(
        self, triangles: np.ndarray, vertex_count: int, size: int = 64, piece: int = PIECE
    ):
        self.triangles = np.asarray(triangles, np.int32)
        self.vertex_count = vertex_count
        self.size = size
        self.piece = piece
        self.edges = MeshEdges.of(self.triangles)
        self.incident = incident_triangles(self.triangles, vertex_count)

    def __call__(
        self, vertices, albedo, camera: Camera, lighting: Lighting, background=None
    ) -> Rendering:
        """The shaded mesh as the camera sees it.

        Args:
            vertices: [B, V, 3] of the mesh (axes as in `camera`).
            albedo: [B, V, 3] RGB, 0..1.
            camera, lighting: of each face.
            background: [B, S, S, 3]; None is black.
        """
        vertices = posed(vertices, camera)
        normals = vertex_normals(vertices, self.triangles, self.incident)
        colors = shade(albedo, vertices, normals, lighting)
        return self.draw(project(vertices, camera.focal, self.size), colors, background)

    def draw(self, screen, colors, background=None) -> Rendering:
        """Coloured vertices that are already projected.

        Args:
            screen: [B, V, 3] from `camera.project`.
            colors: [B, V, 3] RGB, interpolated over the triangles.
            background: [B, S, S, 3]; None is black.
        """
        visible = find_visible(screen, self.triangles, self.edges, self.size, self.piece)
        covered = ops.cast(visible.triangle >= 0, colors.dtype)[..., None]
        surface = interpolate(screen, colors, visible.triangle, self.triangles) * covered
        if background is not None:
            surface = surface + background * (1 - covered)
        layers = ops.concatenate([surface, covered], axis=-1)
        layers = _blend_silhouettes(layers, screen, visible, self.edges)
        return Rendering(layers[..., :3], layers[..., 3:], visible)


def interpolate(screen, colors, triangle, triangles):
    """Colours [B, S, S, C] of the triangles [B, S, S] at the pixels' centres."""
    batch, size = ops.shape(triangle)[0], triangle.shape[1]
    vertex_count, channels = screen.shape[1], colors.shape[-1]
    # Pixels without a triangle are given the first one, and masked by the caller.
    chosen = ops.reshape(ops.maximum(triangle, 0), (-1,))
    rows = ops.take(ops.convert_to_tensor(triangles, "int32"), chosen, axis=0)
    crop = ops.arange(ops.shape(chosen)[0], dtype="int32") // (size * size)
    rows = rows + crop[:, None] * vertex_count
    corners = ops.take(ops.reshape(screen, (-1, 3)), rows, axis=0)
    center = ops.cast(ops.arange(size), screen.dtype) + 0.5
    x = ops.reshape(ops.broadcast_to(center[None, None], (batch, size, size)), (-1,))
    y = ops.reshape(ops.broadcast_to(center[None, :, None], (batch, size, size)), (-1,))
    away = corners[..., :2] - ops.stack([x, y], axis=-1)[:, None]

    def cross(i, j):
        return away[:, i, 0] * away[:, j, 1] - away[:, i, 1] * away[:, j, 0]

    # Each corner weighs as the area across from it, and by 1 / z: linear in space, not on screen.
    weights = ops.stack([cross(1, 2), cross(2, 0), cross(0, 1)], axis=-1) * corners[..., 2]
    total = ops.sum(weights, axis=-1, keepdims=True)
    drawn = ops.reshape(triangle >= 0, (-1, 1))
    weights = ops.where(drawn, weights, 0) / ops.where(drawn, total, 1)
    values = ops.take(ops.reshape(colors, (-1, channels)), rows, axis=0)
    mixed = ops.sum(weights[..., None] * values, axis=1)
    return ops.reshape(mixed, (batch, size, size, channels))


def _blend_silhouettes(layers, screen, visible: Visibility, edges: MeshEdges):
    """Gives each pixel beside a silhouette its share of the neighbour across the edge."""
    change = 0
    for across, edge in enumerate((visible.horizontal, visible.vertical)):
        crossing = _crossing(screen, edge, edges, across)
        first, second = neighbours(layers, across)
        gain = first - second
        # Before the middle of the link the first pixel loses, behind it the second one.
        for part, side in ((-ops.relu(0.5 - crossing), (0, 1)), (ops.relu(crossing - 0.5), (1, 0))):
            widths = [(0, 0), (0, 0), (0, 0), (0, 0)]
            widths[2 - across] = side
            change = change + ops.pad(part * gain, widths)
    return layers + change


def _crossing(screen, edge, edges: MeshEdges, across: int):
    """Where the edge crosses each link, from 0 at the first pixel's centre to 1 at the second's.

    [B, H, W, 1]; 0.5, which changes nothing, on links without an edge.
    """
    along = 1 - across
    batch, height, width = ops.shape(edge)[0], edge.shape[1], edge.shape[2]
    chosen = ops.reshape(ops.maximum(edge, 0), (-1,))
    ends = ops.take(ops.convert_to_tensor(edges.ends, "int32"), chosen, axis=0)
    number = ops.arange(ops.shape(chosen)[0], dtype="int32")
    ends = ends + (number // (height * width))[:, None] * screen.shape[1]
    ends = ops.take(ops.reshape(screen, (-1, 3)), ends, axis=0)[..., :2]
    row, column = number // width % height, number % width
    line, pixel = (row, column) if across == 0 else (column, row)
    there = ops.reshape(edge >= 0, (-1,))
    run = ends[:, 1] - ends[:, 0]
    t = ops.cast(line, screen.dtype) + 0.5 - ends[:, 0, along]
    place = ends[:, 0, across] + t * run[:, across] / ops.where(there, run[:, along], 1)
    fraction = place - (ops.cast(pixel, screen.dtype) + 0.5)
    fraction = ops.where(there, fraction, 0.5)
    return ops.reshape(fraction, (batch, height, width, 1))
