"""Boxes as corners x1, y1, x2, y2 or as centre and size cx, cy, w, h; pixels unless said otherwise.

Coordinates are continuous: a box from x1 to x2 is x2 - x1 wide, with no inclusive pixel added.
"""

from __future__ import annotations

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


def pairwise_iou(a, b):
    """Intersection over union of every pair.

    Args:
        a: [..., N, 4] corners.
        b: [..., M, 4] corners.

    Returns:
        [..., N, M] in 0..1; 0 where both boxes are empty.
    """
    xp = array_namespace(a, b)
    a, b = a[..., :, None, :], b[..., None, :, :]
    top_left = xp.maximum(a[..., :2], b[..., :2])
    bottom_right = xp.minimum(a[..., 2:], b[..., 2:])
    sides = xp.maximum(bottom_right - top_left, 0)
    intersection = sides[..., 0] * sides[..., 1]
    union = area(a) + area(b) - intersection
    return intersection / xp.maximum(union, 1e-9)


def clip_boxes(boxes, height, width):
    """[..., 4] corners moved inside an image of `height` x `width` pixels: x in 0..width, y in 0..height."""
    xp = array_namespace(boxes)
    x = xp.clip(boxes[..., 0::2], 0, width)
    y = xp.clip(boxes[..., 1::2], 0, height)
    return xp.stack([x[..., 0], y[..., 0], x[..., 1], y[..., 1]], axis=-1)
