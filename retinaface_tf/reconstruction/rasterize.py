"""Which triangle each pixel shows, and which silhouette edge runs between two pixels.

These are choices, not numbers: they have no gradient. `renderer` computes from them, with
gradients, what the pixels' colours are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from keras import ops

from retinaface_tf.errors import DataError
from retinaface_tf.mesh.topology import triangle_sides

# Samples in a tile: a few arrays of this length stay in the processor's cache.
PIECE = 1 << 16


def nearest_of_cells(counts, sample, cells, piece: int = PIECE):
    """For each cell the item that is nearest there.

    Args:
        counts: int32 [M], how many samples each item has.
        sample: function (item int32 [P], offset int32 [P], live bool [P]) -> (cell int32 [P],
            nearness float [P], good bool [P]); offset is the sample's number within its item.
            Samples that are not live are padding.
        cells: number of cells, a number or a scalar tensor.
        piece: samples in a tile.

    Returns:
        nearest: [cells] float, the greatest nearness; the type's least number where there is none.
        item: int32 [cells], -1 where there is none; of equal ones the last.
    """
    ends = ops.cumsum(counts)
    total = ends[-1]
    starts = ends - counts
    last = ops.shape(counts)[0] - 1

    def body(first, nearest, item):
        number = first + ops.arange(piece, dtype="int32")
        live = number < total
        owner = ops.cast(ops.searchsorted(ends, number, side="right"), "int32")
        owner = ops.minimum(owner, last)
        cell, nearness, good = sample(owner, number - ops.take(starts, owner), live)
        good = ops.logical_and(good, live)
        # What is not good goes to one cell more than there are.
        cell = ops.where(good, cell, cells)
        best = ops.segment_max(nearness, cell, num_segments=cells + 1)
        winner = ops.where(ops.logical_and(good, nearness >= ops.take(best, cell)), owner, -1)
        winner = ops.segment_max(winner, cell, num_segments=cells + 1)[:cells]
        best = best[:cells]
        closer = ops.logical_and(winner >= 0, best >= nearest)
        return first + piece, ops.where(closer, best, nearest), ops.where(closer, winner, item)

    dtype = sample(starts[:1] * 0, starts[:1] * 0, starts[:1] > -1)[1].dtype
    # What segment_max gives to empty cells differs between backends: compared, never used.
    state = (
        ops.zeros((), "int32"),
        ops.full((cells,), -1e30, dtype),
        ops.full((cells,), -1, "int32"),
    )
    _, nearest, item = ops.while_loop(lambda first, *_: first < total, body, state)
    return nearest, item


# A centre on the line between two triangles belongs to one of them, rounding or not.
_INSIDE = -1e-5


@dataclass(frozen=True, eq=False)
class MeshEdges:
    """The edges of a triangle mesh.

    Attributes:
        ends: int32 [E, 2] vertices.
        triangles: int32 [E, 2] on either side; -1 beyond the border.
    """

    ends: np.ndarray
    triangles: np.ndarray

    @classmethod
    def of(cls, triangles: np.ndarray) -> MeshEdges:
        """The edges of triangles int [T, 3].

        Raises:
            DataError: an edge has more than two triangles.
        """
        sides = np.sort(triangle_sides(triangles), axis=1)
        ends, inverse, uses = np.unique(sides, axis=0, return_inverse=True, return_counts=True)
        if uses.max() > 2:
            raise DataError(
                f"Edge {ends[uses.argmax()].tolist()} has {uses.max()} triangles; the renderer "
                "needs a mesh where an edge has one or two."
            )
        order = np.argsort(inverse.ravel(), kind="stable")
        first = np.concatenate([[0], np.cumsum(uses)[:-1]])
        adjoining = np.full((len(ends), 2), -1, np.int32)
        adjoining[:, 0] = order[first] // 3
        two = uses == 2
        adjoining[two, 1] = order[first[two] + 1] // 3
        return cls(ends.astype(np.int32), adjoining)


class Visibility(NamedTuple):
    """What the pixels of B crops show. Pixels are numbered crop by crop, row by row.

    Attributes:
        triangle: int32 [B, S, S]; -1 where there is none.
        horizontal: int32 [B, S, S - 1], the silhouette edge between a pixel and its right neighbour;
            -1 where there is none.
        vertical: int32 [B, S - 1, S], the same between a pixel and the one below.
    """

    triangle: object
    horizontal: object
    vertical: object


def find_visible(
    screen, triangles: np.ndarray, edges: MeshEdges, size: int, piece: int = PIECE
) -> Visibility:
    """The z-buffer and the visible silhouettes.

    Triangles seen from behind, or with a corner behind the camera, are not drawn. An edge is part
    of a silhouette when exactly one of its triangles is drawn.

    Args:
        screen: [B, V, 3] x, y in pixels and 1 / z (`camera.project`). No gradient passes.
        triangles: int [T, 3].
        size: S, side of the crops.
        piece: samples computed together; bounds the memory.
    """
    screen = ops.stop_gradient(screen)
    batch = ops.shape(screen)[0]
    points = ops.reshape(screen, (-1, 3))
    corners = ops.take(points, corner_rows(triangles, batch, screen.shape[1]), axis=0)
    area, drawn = _facing(corners)
    inverse_depth, triangle = _z_buffer(corners, area, drawn, len(triangles), batch, size, piece)
    depth = ops.reshape(inverse_depth, (batch, size, size))
    links = _silhouettes(screen, edges, ops.reshape(drawn, (batch, -1)), size, piece)
    shown = [
        _visible(edge, nearest, neighbours(depth, a)) for a, (edge, nearest) in enumerate(links)
    ]
    return Visibility(ops.reshape(triangle, (batch, size, size)), *shown)


def neighbours(images, across: int):
    """The first and the second pixel of each link: views of images [B, S, S, ...].

    Args:
        images: of B crops.
        across: 0 for horizontal links ([B, S, S - 1, ...]), 1 for vertical ones ([B, S - 1, S, ...]).
    """
    if across == 0:
        return images[:, :, :-1], images[:, :, 1:]
    return images[:, :-1], images[:, 1:]


def corner_rows(corner_indices, batch, vertex_count: int):
    """Indices int [N, k] into one mesh -> int32 [B * N, k] into the vertices of all crops."""
    indices = ops.convert_to_tensor(np.asarray(corner_indices), "int32")
    offsets = ops.arange(batch, dtype="int32")[:, None, None] * vertex_count
    return ops.reshape(indices[None] + offsets, (-1, indices.shape[1]))


def _facing(corners):
    """Twice the signed area [M] of triangles [M, 3, 3], and which are drawn."""
    u, v = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]
    # y points down: seen counter-clockwise is a negative area.
    return area, ops.logical_and(area < -1e-9, ops.all(corners[..., 2] > 0, axis=1))


def _pixel_range(least, greatest, size: int):
    """First and number of pixels whose centres lie in [least, greatest], within the crop."""
    first = ops.clip(ops.ceil(least - 0.5), 0, size)
    last = ops.clip(ops.floor(greatest - 0.5), -1, size - 1)
    first, last = ops.cast(first, "int32"), ops.cast(last, "int32")
    return first, ops.maximum(last - first + 1, 0)


def _z_buffer(corners, area, drawn, triangle_count: int, batch, size: int, piece: int):
    """Greatest 1 / z [B * S * S] and its triangle's number within its mesh, -1 for none."""
    low, high = ops.min(corners[..., :2], axis=1), ops.max(corners[..., :2], axis=1)
    left, width = _pixel_range(low[:, 0], high[:, 0], size)
    top, height = _pixel_range(low[:, 1], high[:, 1], size)
    counts = ops.where(drawn, width * height, 0)
    # Two barycentric coordinates and 1 / z are linear in x and y. Written from the first corner,
    # not from the crop's, so that narrow triangles keep their digits.
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    safe = ops.where(drawn, area, 1)
    second = ops.stack([c[:, 1] - a[:, 1], a[:, 0] - c[:, 0]], -1) / safe[:, None]
    third = ops.stack([a[:, 1] - b[:, 1], b[:, 0] - a[:, 0]], -1) / safe[:, None]
    slope = second * (b - a)[:, 2:] + third * (c - a)[:, 2:]
    planes = ops.concatenate([a, second, third, slope], axis=-1)
    crop = ops.arange(ops.shape(counts)[0], dtype="int32") // triangle_count
    boxes = ops.stack([left, top, ops.maximum(width, 1), crop * (size * size)], axis=-1)

    def sample(item, offset, live):
        plane, box = ops.take(planes, item, axis=0), ops.take(boxes, item, axis=0)
        row, column = offset // box[:, 2] + box[:, 1], offset % box[:, 2] + box[:, 0]
        dx = ops.cast(column, plane.dtype) + 0.5 - plane[:, 0]
        dy = ops.cast(row, plane.dtype) + 0.5 - plane[:, 1]
        v = plane[:, 3] * dx + plane[:, 4] * dy
        w = plane[:, 5] * dx + plane[:, 6] * dy
        nearness = plane[:, 2] + plane[:, 7] * dx + plane[:, 8] * dy
        inside = ops.minimum(ops.minimum(v, w), 1 - v - w) >= _INSIDE
        return box[:, 3] + row * size + column, nearness, inside

    nearest, triangle = nearest_of_cells(counts, sample, batch * size * size, piece)
    return nearest, ops.where(triangle >= 0, triangle % triangle_count, -1)


def _silhouettes(screen, edges: MeshEdges, drawn, size: int, piece: int):
    """Nearest silhouette edge on each link between neighbouring pixels, and 1 / z there.

    A pair of arrays for horizontal links [B, S, S - 1] and one for vertical links [B, S - 1, S]. Steep
    edges are found on horizontal links, flat ones on vertical links: a straight edge then covers a
    pixel by its length on the one link, counted once.
    """
    batch, vertex_count = ops.shape(screen)[0], screen.shape[1]
    sides = [
        ops.logical_and(
            ops.take(drawn, ops.convert_to_tensor(np.maximum(t, 0), "int32"), axis=1),
            ops.convert_to_tensor(t >= 0),
        )
        for t in edges.triangles.T
    ]
    silhouette = ops.reshape(ops.logical_xor(*sides), (-1,))
    ends = ops.take(
        ops.reshape(screen, (-1, 3)), corner_rows(edges.ends, batch, vertex_count), axis=0
    )
    run = ends[:, 1] - ends[:, 0]
    steep = ops.abs(run[:, 1]) >= ops.abs(run[:, 0])
    good = ops.logical_and(silhouette, ops.all(ends[..., 2] > 0, axis=1))
    crop = ops.arange(ops.shape(run)[0], dtype="int32") // len(edges.ends)
    links = []
    for across, chosen in ((0, steep), (1, ops.logical_not(steep))):
        # `along` numbers the lines of pixels the edge passes, `across` the pixels of such a line.
        along = 1 - across
        low, high = ops.min(ends[..., along], axis=1), ops.max(ends[..., along], axis=1)
        # Half open: where two edges meet, one of them has the line.
        first = ops.cast(ops.clip(ops.ceil(low - 0.5), 0, size), "int32")
        after = ops.cast(ops.clip(ops.ceil(high - 0.5), 0, size), "int32")
        counts = ops.where(ops.logical_and(good, chosen), ops.maximum(after - first, 0), 0)
        whole = ops.stack([first, crop * (size * size)], axis=-1)
        rate = run / ops.where(run[:, along] == 0, 1, run[:, along])[:, None]
        start = ops.concatenate([ends[:, 0], rate], axis=-1)

        def sample(item, offset, live, whole=whole, start=start, along=along, across=across):
            line, place = ops.take(whole, item, axis=0), ops.take(start, item, axis=0)
            number = line[:, 0] + offset
            t = ops.cast(number, place.dtype) + 0.5 - place[:, along]
            crossing = place[:, across] + t * place[:, 3 + across]
            pixel = ops.cast(ops.clip(ops.floor(crossing - 0.5), -1, size), "int32")
            inside = ops.logical_and(pixel >= 0, pixel < size - 1)
            row, column = (number, pixel) if across == 0 else (pixel, number)
            cell = line[:, 1] + row * size + column
            return cell, place[:, 2] + t * place[:, 5], inside

        nearest, edge = nearest_of_cells(counts, sample, batch * size * size, piece)
        edge = ops.where(edge >= 0, edge % len(edges.ends), -1)
        links.append(
            [neighbours(ops.reshape(v, (batch, size, size)), across)[0] for v in (edge, nearest)]
        )
    return links


def _visible(edge, nearness, depths):
    """Drops the edges that lie behind what the pixels show.

    Of the two pixels one shows the edge's own surface, the other what is behind it, which must be
    farther; something nearer than the edge on both sides hides it.
    """
    one, other = depths
    shown = ops.logical_and(ops.minimum(one, other) < nearness, ops.maximum(one, other) > 0)
    return ops.where(shown, edge, -1)
