"""Square crops of images, resized: what the losses of single faces compare with."""

from __future__ import annotations

from keras import ops

from retinaface_tf.geometry.bilinear import sample_bilinear


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
