"""EXIF orientation inside a TensorFlow graph: photos as they are to be seen, as `images.read` gives them.

Labels and detections are in the upright image's pixels, TensorFlow's decoders give the stored ones.
"""

import tensorflow as tf

# EXIF is among the first segments of a JPEG file, which have at most 64 KiB each.
_JPEG_REACH, _JPEG_SEGMENTS, _BLOCK = 1 << 18, 128, 1 << 16
_ORIENTATION_TAG = 0x0112
# Which orientations are undone by mirroring left to right, and which by turning upside down; from 5
# on, rows and columns change places first.
_MIRRORED, _FLIPPED, _TRANSPOSED = (2, 3, 6, 7), (3, 4, 7, 8), 5


def exif_orientation(data) -> tf.Tensor:
    """EXIF orientation 1..8 (Exif 2.3, tag 274), int32 scalar.

    Args:
        data: string scalar, an encoded image. 1 where it is no JPEG or PNG, has no orientation in an
            EXIF block (XMP is not read), or one that cannot be read.
    """
    block = tf.cond(
        tf.equal(tf.strings.substr(data, 0, 3), b"\xff\xd8\xff"),
        lambda: _jpeg_block(data),
        lambda: tf.cond(
            tf.equal(tf.strings.substr(data, 0, 8), b"\x89PNG\r\n\x1a\n"),
            lambda: _png_block(data),
            lambda: tf.constant(b""),
        ),
    )
    return tf.cond(tf.strings.length(block) >= 8, lambda: _of_block(block), lambda: tf.constant(1))


def turn_upright(image, orientation):
    """Undoes an orientation: pixels [H, W, 3] as they are to be seen; as `images.decode.upright`."""

    def turn():
        turned = tf.cond(
            orientation >= _TRANSPOSED, lambda: tf.transpose(image, [1, 0, 2]), lambda: image
        )
        turned = tf.cond(_is(orientation, _MIRRORED), lambda: turned[:, ::-1], lambda: turned)
        return tf.cond(_is(orientation, _FLIPPED), lambda: turned[::-1], lambda: turned)

    return tf.cond(orientation == 1, lambda: image, turn)


def upright_shape(shape, orientation):
    """int32 [2] height and width as stored -> as seen."""
    return tf.where(orientation >= _TRANSPOSED, shape[::-1], shape)


def stored_rectangle(rectangle, shape, orientation):
    """Where a rectangle of the upright image lies in the stored one.

    Args:
        rectangle: left, top, right, bottom, int32 scalars.
        shape: int32 [2] height and width of the upright image.
        orientation: int32 scalar.

    Returns:
        The same four in the stored image's pixels.
    """
    left, top, right, bottom = rectangle
    height, width = tf.unstack(shape)
    mirrored, flipped = _is(orientation, _MIRRORED), _is(orientation, _FLIPPED)
    x = tf.where(mirrored, [width - right, width - left], [left, right])
    y = tf.where(flipped, [height - bottom, height - top], [top, bottom])
    transposed = orientation >= _TRANSPOSED
    corners = tf.where(transposed, tf.stack([y, x], axis=1), tf.stack([x, y], axis=1))
    return tf.unstack(tf.reshape(corners, [4]))


def _is(orientation, values):
    return tf.reduce_any(orientation == values)


def _jpeg_block(data):
    """The TIFF structure in a JPEG's EXIF segment, "" where there is none."""
    raw = tf.io.decode_raw(tf.strings.substr(data, 0, _JPEG_REACH), tf.uint8)
    last = tf.size(raw) - 1

    def byte(position):
        return tf.cast(tf.gather(raw, tf.clip_by_value(position, 0, last)), tf.int32)

    def is_exif(position):
        found = byte(position + tf.constant([0, 1, 4, 5, 6, 7, 8, 9]))
        return tf.reduce_all(found == [0xFF, 0xE1, *b"Exif\0\0"])

    def is_other_segment(position):
        kind = byte(position + 1)
        # Start of scan (0xDA) and end of image (0xD9) close the header.
        return tf.reduce_all(
            [
                position < last,
                byte(position) == 0xFF,
                kind != 0xDA,
                kind != 0xD9,
                tf.logical_not(is_exif(position)),
            ]
        )

    def next_segment(position):
        return [position + 2 + 256 * byte(position + 2) + byte(position + 3)]

    position = tf.while_loop(
        is_other_segment, next_segment, [tf.constant(2)], maximum_iterations=_JPEG_SEGMENTS
    )[0]
    start = tf.minimum(position + 10, tf.strings.length(data))
    return tf.cond(
        is_exif(position),
        lambda: tf.strings.substr(data, start, _BLOCK),
        lambda: tf.constant(b""),
    )


def _png_block(data):
    """The TIFF structure in a PNG's eXIf chunk, "" where there is none.

    It may stand before or behind any number of others, so it is not looked for chunk by chunk, but
    by its first six bytes, which no others are by chance.
    """
    raw = tf.io.decode_raw(data, tf.uint8)
    count = tf.maximum(tf.size(raw) - 5, 0)
    parts = [raw[i : i + count] for i in range(6)]
    found = parts[4] == parts[5]  # II or MM, the order of bytes
    for values, letter in zip(parts, b"eXIf"):
        found &= values == letter
    places = tf.cast(tf.where(found)[:, 0], tf.int32)
    return tf.cond(
        tf.size(places) > 0,
        lambda: tf.strings.substr(data, places[0] + 4, _BLOCK),
        lambda: tf.constant(b""),
    )


def _of_block(block):
    """The orientation in a TIFF structure of at least 8 bytes."""
    raw = tf.cast(tf.io.decode_raw(block, tf.uint8), tf.int32)
    last = tf.size(raw) - 1
    big = raw[0] == ord("M")

    def short(position):
        first, second = (tf.gather(raw, tf.clip_by_value(position + i, 0, last)) for i in (0, 1))
        return tf.where(big, 256 * first + second, first + 256 * second)

    # Offsets of 64 KiB and more cannot be within the block.
    directory = tf.where(big, short(6), short(4))
    entries = directory + 2 + 12 * tf.range(tf.minimum(short(directory), 500))
    value = tf.where(short(entries) == _ORIENTATION_TAG, short(entries + 8), 0)
    value = tf.reduce_max(tf.concat([value, [0]], 0))
    return tf.where((value >= 1) & (value <= 8), value, 1)
