"""Encoded images decoded inside a TensorFlow graph, so that damage costs one image, not a batch.

TensorFlow's decoders end the whole step when bytes are damaged, and a graph has no "try". But a
`tf.data` dataset can drop elements that fail: each image goes through a dataset of its own, with
a stand-in behind it for the case that nothing came out. These are plain built-in operators.
"""

import functools

import numpy as np
import tensorflow as tf

from retinaface_tf.data.upright_in_graph import exif_orientation, turn_upright

# Values of the output `status`.
GOOD, UNDECODABLE, TOO_LARGE = 0, 1, 2
# Of a GIF, extensions before the first frame (files have under ten), and bytes looked at in one step.
_MAX_EXTENSIONS, _WINDOW = 64, 1 << 16
# Of a progressive JPEG: encoders write about 10.
_FREE_SCANS = 20
# Pixels that are laid on white at a time.
_STRIP = 1 << 17


def decode_upright(data: tf.Tensor, max_pixels: int) -> tuple[tf.Tensor, tf.Tensor]:
    """A JPEG, PNG, BMP or GIF (first frame) as RGB pixels, the way the image is to be seen.

    The same pixels as `images.read.read_image`: EXIF orientation applied, transparency of PNG
    laid on white, 16 bits reduced to their high byte.

    Args:
        data: string scalar, the file's bytes.
        max_pixels: JPEG with more, and other files with more than half of that (they take twice
            the memory), are refused by their header, before any pixel is decoded.

    Returns:
        uint8 [H, W, 3], and int32 scalar status: `GOOD`, `UNDECODABLE` or `TOO_LARGE`. Where it is
        not good the image is a black one of 32x32 pixels.
    """
    answer = tf.data.Dataset.from_tensors(data).map(lambda one: decode_or_fail(one, max_pixels))
    otherwise = tf.data.Dataset.from_tensors((_stand_in(), tf.constant(UNDECODABLE)))
    answer = answer.ignore_errors().concatenate(otherwise).take(1)
    image, status = answer.get_single_element()
    return tf.ensure_shape(image, [None, None, 3]), status


def decode_or_fail(data: tf.Tensor, max_pixels: int) -> tuple[tf.Tensor, tf.Tensor]:
    """`decode_upright` for use within a dataset that ignores errors: damage ends the step.

    Returns:
        uint8 [H, W, 3], and int32 scalar status: `GOOD` or `TOO_LARGE`.
    """
    kind = _format(data)
    height, width = _by_kind(kind, data, (_jpeg_size, _png_size, _bmp_size, _gif_size))
    with tf.control_dependencies([tf.debugging.assert_positive(tf.minimum(height, width))]):
        limit = tf.constant([max_pixels, max_pixels // 2], tf.int64)[tf.minimum(kind, 1)]
        fits = height * width <= limit
    image, status = tf.cond(
        fits,
        lambda: (_pixels(data, kind), tf.constant(GOOD)),
        lambda: (_stand_in(), tf.constant(TOO_LARGE)),
    )
    return tf.ensure_shape(image, [None, None, 3]), status


def _stand_in() -> tf.Tensor:
    return tf.zeros([32, 32, 3], tf.uint8)


def _by_kind(kind, data, functions):
    return tf.switch_case(kind, [functools.partial(function, data) for function in functions])


def _pixels(data, kind) -> tf.Tensor:
    image = _by_kind(kind, data, (_decode_jpeg, _decode_png, _decode_bmp, _decode_gif))
    image = turn_upright(image, exif_orientation(data))
    return tf.ensure_shape(image, [None, None, 3])


def _format(data) -> tf.Tensor:
    """0 JPEG, 1 PNG, 2 BMP, 3 GIF; anything else is an error."""
    starts = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"GIF87a", b"GIF89a")
    found = [tf.equal(tf.strings.substr(data, 0, len(start)), start) for start in starts]
    with tf.control_dependencies([tf.debugging.assert_equal(tf.reduce_any(found), True)]):
        return tf.minimum(tf.argmax(tf.cast(found, tf.int32), output_type=tf.int32), 3)


def _read(data, start: int, length: int, little_endian: bool = True) -> tf.Tensor:
    """int64 scalar of a few bytes."""
    values = tf.io.decode_raw(tf.strings.substr(data, start, length), tf.uint8)
    values = tf.cast(tf.ensure_shape(values, [length]), tf.int64)
    powers = 256 ** np.arange(length, dtype=np.int64)
    return tf.reduce_sum(values * (powers if little_endian else powers[::-1]))


def _jpeg_size(data):
    """Height and width; the decoder goes over all pixels for each scan, and those beyond
    `_FREE_SCANS` count as rows more."""
    shape = tf.cast(tf.image.extract_jpeg_shape(data), tf.int64)
    raw = tf.io.decode_raw(data, tf.uint8)
    starts = tf.logical_and(raw[:-1] == 0xFF, raw[1:] == 0xDA)
    scans = tf.reduce_sum(tf.cast(starts, tf.int64))
    return shape[0] * tf.maximum(scans, _FREE_SCANS) // _FREE_SCANS, shape[1]


def _png_size(data):
    return _read(data, 20, 4, False), _read(data, 16, 4, False)


def _bmp_size(data):
    # Height is signed: negative means that rows run from top to bottom.
    height = _read(data, 22, 4)
    return tf.where(height < 2**31, height, 2**32 - height), _read(data, 18, 4)


def _gif_size(data):
    # TensorFlow gives every frame the size of the screen, and sets memory aside for the frame's
    # own size before: both count.
    _, height, width = _gif_first_frame(data)
    return tf.maximum(_read(data, 8, 2), height), tf.maximum(_read(data, 6, 2), width)


def _decode_jpeg(data):
    return tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE", fancy_upscaling=True)


def _decode_png(data):
    image = tf.io.decode_png(data, channels=4)
    alpha = image[..., 3:]

    def on_white():
        """In strips of rows: whole images would take six times their memory meanwhile."""
        height, width = tf.unstack(tf.shape(image)[:2])
        rows = tf.maximum(1, _STRIP // width)

        def strip(start, strips):
            part = tf.cast(image[start : start + rows], tf.uint16)
            color, share = part[..., :3], part[..., 3:]
            part = tf.cast((color * share + (255 * (255 - share) + 127)) // 255, tf.uint8)
            return start + rows, strips.write(strips.size(), part)

        strips = tf.TensorArray(
            tf.uint8, 0, dynamic_size=True, infer_shape=False, element_shape=[None, None, 3]
        )
        loop = (lambda start, _: start < height), strip, (tf.constant(0), strips)
        return tf.while_loop(*loop, parallel_iterations=1)[1].concat()

    return tf.cond(tf.reduce_min(alpha) < 255, on_white, lambda: image[..., :3])


def _decode_bmp(data):
    """24 and 32 bits, and 8 bits with a palette; uncompressed."""
    bits, compression = _read(data, 28, 2), _read(data, 30, 4)
    # Bit fields (3) with 32 bits are blue, green, red in practice.
    plain = tf.logical_or(compression == 0, tf.logical_and(compression == 3, bits == 32))

    def from_palette():
        indices = tf.cast(tf.io.decode_bmp(data, channels=0)[..., 0], tf.int32)
        start = 14 + _read(data, 14, 4)
        length = _read(data, 10, 4) - start
        table = tf.io.decode_raw(tf.strings.substr(data, start, length), tf.uint8)
        table = tf.reshape(table[: length // 4 * 4], [-1, 4])[:, 2::-1]
        return tf.gather(tf.pad(table, [[0, 256], [0, 0]]), indices)

    with tf.control_dependencies([tf.debugging.assert_equal(plain, True)]):
        return tf.cond(bits == 8, from_palette, lambda: tf.io.decode_bmp(data, channels=0)[..., :3])


def _decode_gif(data):
    return tf.io.decode_gif(_gif_first_frame(data)[0])[0]


def _gif_first_frame(data):
    """The file with nothing but its first frame, and that frame's height and width.

    TensorFlow's decoder would decode every frame, of any number and size, to give the first, and
    keep every comment.
    """
    raw = tf.io.decode_raw(data, tf.uint8)

    def at(position):
        return tf.cast(raw[position], tf.int32)

    def table_length(flags):
        return tf.where(flags >= 128, 3 * tf.bitwise.left_shift(2, flags % 8), 0)

    def skip_blocks(position):
        """Behind blocks that each begin with their length, the last with 0.

        A window of bytes a step, whatever the blocks: `target` leads from each byte, were it the
        begin of a block, to the begin of another one, twice as far in each turn.
        """

        def window(position, _):
            lengths = tf.cast(raw[position : position + _WINDOW], tf.int32)
            size = tf.size(lengths)
            target = tf.range(size) + tf.where(lengths > 0, 1 + lengths, 0)
            # Behind the window nothing leads on.
            target = tf.concat([target, tf.range(size, size + 256)], 0)
            target = tf.while_loop(
                lambda target: target[0] != target[target[0]],
                lambda target: [tf.gather(target, target)],
                [target],
            )[0]
            return position + target[0], target[0] < size

        position, ended = tf.while_loop(
            lambda position, ended: ~ended & (position < tf.size(raw)),
            window,
            [position, tf.constant(False)],
        )
        with tf.control_dependencies([tf.debugging.assert_equal(ended, True)]):
            return position + 1

    header = 13 + table_length(at(10))
    start = tf.while_loop(
        lambda position: tf.equal(at(position), 0x21),
        lambda position: [skip_blocks(position + 2)],
        [header],
        maximum_iterations=_MAX_EXTENSIONS,
    )[0]
    with tf.control_dependencies([tf.debugging.assert_equal(at(start), 0x2C)]):
        frame = tf.cast(raw[start : start + 10], tf.int32)
    end = skip_blocks(start + 10 + table_length(frame[9]) + 1)
    # Right before the frame stands, if anywhere, which of its colours is transparent.
    control = tf.strings.substr(data, tf.maximum(start - 8, header), 8)
    control = tf.where(tf.strings.substr(control, 0, 3) == b"\x21\xf9\x04", control, b"")
    file = tf.strings.join(
        [
            tf.strings.substr(data, 0, header),
            control,
            tf.strings.substr(data, start, end - start),
            ";",
        ]
    )
    size = tf.cast(frame[5:9], tf.int64)
    return file, size[2] + 256 * size[3], size[0] + 256 * size[1]
