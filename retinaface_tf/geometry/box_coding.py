"""Codes between anchors and faces: what the box and landmark heads regress (SSD's variances).

A box code is (dcx, dcy, dw, dh): centre offsets in anchor sizes over `center_variance`, logarithms
of the size ratio over `size_variance`. A landmark code is the offset from the anchor's centre in
anchor sizes over `center_variance`.
"""

from __future__ import annotations

from retinaface_tf.geometry.boxes import center_to_corners, corners_to_center
from retinaface_tf.geometry.namespace import array_namespace


def encode_boxes(boxes, anchors, center_variance: float = 0.1, size_variance: float = 0.2):
    """[..., N, 4] corner boxes of positive size -> [..., N, 4] codes for anchors [N, 4] cx, cy, w, h."""
    xp = array_namespace(boxes, anchors)
    boxes = corners_to_center(boxes)
    center = (boxes[..., :2] - anchors[..., :2]) / (anchors[..., 2:] * center_variance)
    size = xp.log(boxes[..., 2:] / anchors[..., 2:]) / size_variance
    return xp.concatenate([center, size], axis=-1)


def decode_boxes(codes, anchors, center_variance: float = 0.1, size_variance: float = 0.2):
    """[..., N, 4] codes -> [..., N, 4] corner boxes in the anchors' pixels."""
    xp = array_namespace(codes, anchors)
    center = anchors[..., :2] + codes[..., :2] * center_variance * anchors[..., 2:]
    size = anchors[..., 2:] * xp.exp(codes[..., 2:] * size_variance)
    return center_to_corners(xp.concatenate([center, size], axis=-1))


def compose_boxes(first, second, size_variance: float = 0.2):
    """The codes for an anchor of boxes that are coded for the box that `first` makes of it.

    Args:
        first: [..., N, 4] box codes for anchors.
        second: [..., N, 4] box codes for the boxes `first` decodes to.

    Returns:
        [..., N, 4] box codes for the anchors.
    """
    xp = array_namespace(first, second)
    center = first[..., :2] + second[..., :2] * xp.exp(first[..., 2:] * size_variance)
    return xp.concatenate([center, first[..., 2:] + second[..., 2:]], axis=-1)


def compose_points(first, second, size_variance: float = 0.2):
    """`compose_boxes` for codes `second` [..., N, 2 P] of P points, x before y."""
    xp = array_namespace(first, second)
    # Without an axis for the points: TFLite's converter cannot add one to a map of open size.
    points = second.shape[-1] // 2
    center = xp.concatenate([first[..., :2]] * points, axis=-1)
    growth = xp.concatenate([xp.exp(first[..., 2:] * size_variance)] * points, axis=-1)
    return center + second * growth


def encode_points(points, anchors, center_variance: float = 0.1):
    """[..., N, P, 2] pixel points -> [..., N, P, 2] codes for anchors [N, 4] cx, cy, w, h."""
    center, size = anchors[..., None, :2], anchors[..., None, 2:]
    return (points - center) / (size * center_variance)


def decode_points(codes, anchors, center_variance: float = 0.1):
    """[..., N, P, 2] codes -> [..., N, P, 2] points x, y in the anchors' pixels."""
    center, size = anchors[..., None, :2], anchors[..., None, 2:]
    return center + codes * center_variance * size
