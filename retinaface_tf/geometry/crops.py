"""Square crops of images, resized: what a face's own losses look at."""

from __future__ import annotations

from keras import ops


def crop_squares(images, image, squares, size: int, samples: int = 2):
    """The content of squares, each averaged down or interpolated up to `size` pixels.

    Args:
        images: [B, H, W, C], any number type.
        image: int32 [N], which image each square is in.
        squares: [N, 4] cx, cy, w, h in pixels, such as anchors; they may leave the image, whose
            border then goes on.
        size: S, side of the crops.
        samples: along each side of a pixel; more of them for crops much smaller than their squares.

    Returns:
        float32 [N, S, S, C], in the images' units.
    """
    batch, height, width = (ops.shape(images)[i] for i in range(3))
    channels = images.shape[-1]
    rows = ops.reshape(images, (batch * height * width, channels))
    steps = (ops.cast(ops.arange(size * samples), "float32") + 0.5) / (size * samples) - 0.5
    squares = ops.cast(squares, "float32")
    # In pixels whose middles are whole numbers.
    x = squares[:, 0:1] + squares[:, 2:3] * steps - 0.5
    y = squares[:, 1:2] + squares[:, 3:4] * steps - 0.5
    x = ops.clip(x, 0.0, ops.cast(width - 1, "float32"))[:, None, :]
    y = ops.clip(y, 0.0, ops.cast(height - 1, "float32"))[:, :, None]
    left, top = ops.floor(x), ops.floor(y)
    right_share, lower_share = (x - left)[..., None], (y - top)[..., None]
    left, top = ops.cast(left, "int32"), ops.cast(top, "int32")
    right, bottom = ops.minimum(left + 1, width - 1), ops.minimum(top + 1, height - 1)
    first = ops.cast(image, "int32")[:, None, None] * (height * width)

    def taken(row, column):
        return ops.cast(ops.take(rows, first + row * width + column, axis=0), "float32")

    above = taken(top, left) * (1 - right_share) + taken(top, right) * right_share
    below = taken(bottom, left) * (1 - right_share) + taken(bottom, right) * right_share
    fine = above * (1 - lower_share) + below * lower_share
    fine = ops.reshape(fine, (-1, size, samples, size, samples, channels))
    return ops.mean(fine, axis=(2, 4))
