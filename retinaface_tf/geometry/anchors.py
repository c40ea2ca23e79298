"""The anchor table: square boxes tiled over the cells of each pyramid level (papers, section 3)."""

import functools
from collections.abc import Sequence

import numpy as np

from retinaface_tf.config import PyramidLevel


def level_shapes(levels: Sequence[PyramidLevel], height, width) -> list[tuple]:
    """Rows and columns of each level's feature map for an image of `height` x `width` pixels.

    Every stride-2 layer rounds up, so a level has ceil(side / stride) cells a side. The sides are
    ints, or int32 scalar tensors for sizes known only when a graph runs; so are the results.
    """
    # No negative numbers: ONNX divides them towards zero.
    return [
        ((height + l.stride - 1) // l.stride, (width + l.stride - 1) // l.stride) for l in levels
    ]


def count_anchors(levels: Sequence[PyramidLevel], height, width):
    """Number of anchors for an image of `height` x `width` pixels (as in `level_shapes`)."""
    shapes = level_shapes(levels, height, width)
    return sum(r * c * len(l.anchor_sizes) for (r, c), l in zip(shapes, levels))


@functools.lru_cache(maxsize=64)
def generate_anchors(levels: tuple[PyramidLevel, ...], height: int, width: int) -> np.ndarray:
    """All anchors of an image, in the order of the network's outputs.

    Order: level by level from fine to coarse, cells row by row, sizes of a cell in table order.
    Centres sit in the middle of their cell, (column + 0.5) * stride.

    Args:
        levels: the pyramid, as in `RetinaFaceConfig.levels`.
        height, width: of the network's input in pixels; any positive size.

    Returns:
        float32 [N, 4] cx, cy, w, h in input pixels. Cached for each size, hence read-only.
    """
    parts = []
    for level, (rows, columns) in zip(levels, level_shapes(levels, height, width)):
        sizes = np.asarray(level.anchor_sizes, np.float32)
        table = np.empty((rows, columns, len(sizes), 4), np.float32)
        table[..., 0] = ((np.arange(columns, dtype=np.float32) + 0.5) * level.stride)[None, :, None]
        table[..., 1] = ((np.arange(rows, dtype=np.float32) + 0.5) * level.stride)[:, None, None]
        table[..., 2:] = sizes[:, None]
        parts.append(table.reshape(-1, 4))
    anchors = np.concatenate(parts)
    anchors.flags.writeable = False
    return anchors


def generate_anchors_in_graph(levels: Sequence[PyramidLevel], height, width):
    """`generate_anchors` for sizes known only when the graph runs.

    Args:
        levels: the pyramid.
        height, width: int32 scalar tensors (or ints).

    Returns:
        float32 tensor [N, 4] cx, cy, w, h, equal to `generate_anchors(levels, height, width)`.
    """
    from keras import ops

    parts = []
    for level, (rows, columns) in zip(levels, level_shapes(levels, height, width)):
        sizes = ops.convert_to_tensor(level.anchor_sizes, "float32")
        cell = ops.arange(rows * columns, dtype="int32")
        x = (ops.cast(cell % columns, "float32") + 0.5) * level.stride
        y = (ops.cast(cell // columns, "float32") + 0.5) * level.stride
        centers = ops.repeat(ops.stack([x, y], axis=-1), len(level.anchor_sizes), axis=0)
        sides = ops.tile(ops.stack([sizes, sizes], axis=-1), [rows * columns, 1])
        parts.append(ops.concatenate([centers, sides], axis=-1))
    return ops.concatenate(parts, axis=0)
