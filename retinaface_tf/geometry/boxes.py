"""Boxes as corners x1, y1, x2, y2 or as centre and size cx, cy, w, h; pixels unless said otherwise.

Coordinates are continuous: a box from x1 to x2 is x2 - x1 wide, with no inclusive pixel added.
"""

import numpy as np

from retinaface_tf.geometry.namespace import array_namespace


def corners_to_center(boxes):
    """[..., 4] x1, y1, x2, y2 -> [..., 4] cx, cy, w, h."""
    xp = array_namespace(boxes)
    top_left, bottom_right = boxes[..., :2], boxes[..., 2:]
    return xp.concatenate([(top_left + bottom_right) / 2, bottom_right - top_left], axis=-1)


def center_to_corners(boxes):
    """[..., 4] cx, cy, w, h -> [..., 4] x1, y1, x2, y2."""
    xp = array_namespace(boxes)
    center, half = boxes[..., :2], boxes[..., 2:] / 2
    return xp.concatenate([center - half, center + half], axis=-1)


def area(boxes):
    """[..., 4] corners -> [...] area in square pixels; 0 for inverted boxes."""
    xp = array_namespace(boxes)
    sides = xp.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return sides[..., 0] * sides[..., 1]


def intersection(a, b):
    """[..., 4] corners of each, broadcast against each other -> [...] area that both cover."""
    xp = array_namespace(a, b)
    width = xp.minimum(a[..., 2], b[..., 2]) - xp.maximum(a[..., 0], b[..., 0])
    height = xp.minimum(a[..., 3], b[..., 3]) - xp.maximum(a[..., 1], b[..., 1])
    return xp.maximum(width, 0) * xp.maximum(height, 0)


def iou(a, b):
    """Intersection over union of [..., 4] corners, broadcast -> [...] in 0..1; 0 for empty boxes."""
    return _over_union(intersection(a, b), area(a), area(b))


def pairwise_iou(a, b):
    """`iou` of every pair: [..., N, 4] and [..., M, 4] corners -> [..., N, M]."""
    return iou(a[..., :, None, :], b[..., None, :, :])


def pairwise_iou_of_centers(a, b):
    """`pairwise_iou` of [N, 4] and [M, 4] cx, cy, w, h.

    A box inside another has exactly its own size as overlap here, wherever it lies, so that ties
    stay ties in every precision.
    """
    xp = array_namespace(a, b)
    a, b = a[:, None, :], b[None, :, :]
    shared = 1.0
    for axis in (0, 1):
        side, other = a[..., 2 + axis], b[..., 2 + axis]
        apart = xp.abs(a[..., axis] - b[..., axis])
        overlap = xp.minimum(xp.minimum(side, other), (side + other) / 2 - apart)
        shared = shared * xp.maximum(overlap, 0.0)
    return _over_union(shared, a[..., 2] * a[..., 3], b[..., 2] * b[..., 3])


def share_inside(boxes, others):
    """Part of each box that lies within another: [..., 4] corners, broadcast -> [...] in 0..1."""
    xp = array_namespace(boxes, others)
    return intersection(boxes, others) / xp.maximum(area(boxes), 1e-9)


def _over_union(shared, area_a, area_b):
    xp = array_namespace(shared, area_a, area_b)
    return shared / xp.maximum(area_a + area_b - shared, 1e-9)


def clip_boxes(boxes, height, width):
    """[..., 4] corners moved inside an image of `height` x `width` pixels: x in 0..width, y in 0..height."""
    xp = array_namespace(boxes)
    x = xp.clip(boxes[..., 0::2], 0, width)
    y = xp.clip(boxes[..., 1::2], 0, height)
    return xp.stack([x[..., 0], y[..., 0], x[..., 1], y[..., 1]], axis=-1)


def match_pairs(iou: np.ndarray, least: float) -> tuple[np.ndarray, np.ndarray]:
    """Pairs rows with columns in falling order of overlap; each is in one pair at most.

    Args:
        iou: [N, M], such as `boxes.pairwise_iou`.
        least: pairs below it are none.

    Returns:
        rows, columns: int64 [K] each, the best pair first; of equal ones the lower row, then the
        lower column.
    """
    rows, columns = np.nonzero(iou >= least)
    pairs, used_rows, used_columns = [], set(), set()
    for place in np.argsort(-iou[rows, columns], kind="stable"):
        row, column = int(rows[place]), int(columns[place])
        if row not in used_rows and column not in used_columns:
            pairs.append((row, column))
            used_rows.add(row)
            used_columns.add(column)
    rows, columns = np.array(pairs, np.int64).reshape(-1, 2).T
    return rows, columns
