"""Bilinear interpolation in maps whose cells lie as rows of one table."""

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


def crop_squares(images, image, squares, size: int, samples: int = 2):
    """The content of squares, each averaged down or interpolated up to `size` pixels.

    Args:
        images: [B, H, W, C], any number type.
        image: int32 [N], which image each square is in.
        squares: [N, 4] cx, cy, w, h in pixels, such as anchors; they may leave the image, whose
            border pixels are then repeated.
        size: S, side of the crops.
        samples: points averaged along each side of a crop's pixel; more for squares much larger than S.

    Returns:
        float32 [N, S, S, C], in the images' units.
    """
    from keras import ops

    batch, height, width = (ops.shape(images)[i] for i in range(3))
    channels = images.shape[-1]
    rows = ops.reshape(images, (batch * height * width, channels))
    steps = (ops.cast(ops.arange(size * samples), "float32") + 0.5) / (size * samples) - 0.5
    squares = ops.cast(squares, "float32")
    # In pixels whose middles are whole numbers.
    x = squares[:, 0:1] + squares[:, 2:3] * steps - 0.5
    y = squares[:, 1:2] + squares[:, 3:4] * steps - 0.5
    first = ops.cast(image, "int32")[:, None, None] * (height * width)
    fine = sample_bilinear(rows, first, height, width, x[:, None, :], y[:, :, None])
    fine = ops.reshape(fine, (-1, size, samples, size, samples, channels))
    return ops.mean(fine, axis=(2, 4))
