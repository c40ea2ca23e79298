"""Bilinear interpolation in maps whose cells lie as rows of one table."""

from __future__ import annotations

from retinaface_tf.geometry.namespace import array_namespace, cast


def sample_bilinear(table, first, height, width, x, y):
    """Values between the four nearest cells; beyond a map's edge its nearest cell's.

    Args:
        table: [P, C], any number type: maps one behind the other, row by row.
        first: int, the table's row of a map's first cell; this and all below broadcast to the
            shape [...] of the samples.
        height, width: int, cells of that map.
        x, y: float, in cells: whole numbers at their middles.

    Returns:
        [..., C] of x's type.
    """
    xp = array_namespace(table, x, y)
    x = xp.clip(x, 0.0, cast(xp, width - 1, x.dtype))
    y = xp.clip(y, 0.0, cast(xp, height - 1, y.dtype))
    left, top = xp.floor(x), xp.floor(y)
    right_share, lower_share = (x - left)[..., None], (y - top)[..., None]
    left, top = cast(xp, left, "int32"), cast(xp, top, "int32")
    right, bottom = xp.minimum(left + 1, width - 1), xp.minimum(top + 1, height - 1)
    upper, lower = first + top * width, first + bottom * width

    def taken(start, column):
        return cast(xp, xp.take(table, start + column, axis=0), x.dtype)

    above = taken(upper, left) * (1 - right_share) + taken(upper, right) * right_share
    below = taken(lower, left) * (1 - right_share) + taken(lower, right) * right_share
    return above * (1 - lower_share) + below * lower_share
