"""Deltas between anchors and faces: what the box and landmark heads regress (SSD's variances).

Box deltas are (dcx, dcy, dw, dh): centre offsets in anchor sizes over `center_variance`, logarithms
of the size ratio over `size_variance`. Landmark deltas are offsets from the anchor's centre in
anchor sizes over `center_variance`.
"""

from retinaface_tf.geometry.boxes import center_to_corners, corners_to_center
from retinaface_tf.geometry.namespace import array_namespace


def encode_boxes(boxes, anchors, center_variance: float = 0.1, size_variance: float = 0.2):
    """[..., N, 4] corner boxes of positive size -> [..., N, 4] deltas for anchors [N, 4] cx, cy, w, h."""
    xp = array_namespace(boxes, anchors)
    boxes = corners_to_center(boxes)
    center = (boxes[..., :2] - anchors[..., :2]) / (anchors[..., 2:] * center_variance)
    size = xp.log(boxes[..., 2:] / anchors[..., 2:]) / size_variance
    return xp.concatenate([center, size], axis=-1)


def decode_boxes(deltas, anchors, center_variance: float = 0.1, size_variance: float = 0.2):
    """[..., N, 4] deltas -> [..., N, 4] corner boxes in the anchors' pixels."""
    xp = array_namespace(deltas, anchors)
    center = anchors[..., :2] + deltas[..., :2] * center_variance * anchors[..., 2:]
    size = anchors[..., 2:] * xp.exp(deltas[..., 2:] * size_variance)
    return center_to_corners(xp.concatenate([center, size], axis=-1))


def compose_box_deltas(first, second, size_variance: float = 0.2):
    """Box deltas for anchors from those for the boxes that the first deltas decode to.

    Args:
        first: [..., N, 4] for the anchors.
        second: [..., N, 4] for the boxes that `first` decodes to.

    Returns:
        [..., N, 4] for the anchors, of the boxes that `second` decodes to.
    """
    xp = array_namespace(first, second)
    center = first[..., :2] + second[..., :2] * xp.exp(first[..., 2:] * size_variance)
    return xp.concatenate([center, first[..., 2:] + second[..., 2:]], axis=-1)


def compose_point_deltas(first, second, size_variance: float = 0.2):
    """`compose_box_deltas` for `second` [..., N, 2 P] of P points, x before y."""
    xp = array_namespace(first, second)
    # Without an axis for the points: TFLite's converter cannot add one to a map of open size.
    points = second.shape[-1] // 2
    center = xp.concatenate([first[..., :2]] * points, axis=-1)
    growth = xp.concatenate([xp.exp(first[..., 2:] * size_variance)] * points, axis=-1)
    return center + second * growth


def encode_points(points, anchors, center_variance: float = 0.1):
    """[..., N, P, 2] pixel points -> [..., N, P, 2] deltas for anchors [N, 4] cx, cy, w, h."""
    center, size = anchors[..., None, :2], anchors[..., None, 2:]
    return (points - center) / (size * center_variance)


def decode_points(deltas, anchors, center_variance: float = 0.1):
    """[..., N, P, 2] deltas -> [..., N, P, 2] points x, y in the anchors' pixels."""
    center, size = anchors[..., None, :2], anchors[..., None, 2:]
    return center + deltas * center_variance * size
