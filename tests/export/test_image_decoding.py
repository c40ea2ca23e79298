"""The graph's decoder against the library's own, which Pillow and OpenCV stand behind."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from retinaface_tf.export.image_decoding import GOOD, TOO_LARGE, UNDECODABLE, decode_upright
from retinaface_tf.images.read import read_image

MAX_PIXELS = 1_000_000


@pytest.fixture(scope="module")
def turns():
    """An entry for each turn of a loop in the graph."""
    return []


@pytest.fixture(scope="module")
def decode(turns):
    traced = tf.function(
        lambda data: decode_upright(data, MAX_PIXELS),
        input_signature=[tf.TensorSpec([], tf.string)],
    )
    loop = tf.while_loop

    def counted(condition, body, *arguments, **options):
        def turn(*values):
            with tf.control_dependencies([tf.numpy_function(lambda: turns.append(1), [], [])]):
                return body(*values)

        return loop(condition, turn, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf, "while_loop", counted)
        traced.get_concrete_function()

    def run(data):
        image, status = traced(data)
        return image.numpy(), int(status)

    return run


def encode(image, kind, **options):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind, **options)
    return stream.getvalue()


@pytest.fixture(scope="module")
def picture(astronaut):
    return np.ascontiguousarray(astronaut[40:240, 120:370])


def assert_same(decode, data, tolerance=0):
    image, status = decode(data)
    assert status == GOOD
    expected = read_image(data)
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).max() <= tolerance


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_orientation_is_undone(decode, picture, orientation, order):
    exif = Image.Exif()
    exif.endian = order
    exif[0x0112] = orientation
    exif[0x010F] = "a maker whose name takes room"
    for kind in ("JPEG", "PNG"):
        assert_same(decode, encode(picture, kind, exif=exif))


def test_a_damaged_exif_block_does_not_cost_the_image(decode, picture):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(picture, "JPEG", exif=exif)
    start = data.index(b"Exif\0\0") + 6
    for damage in (b"\xff" * 14, b"\0" * 14, b"MM\0*\0\0\xff\xff\xff\xff"):
        image, status = decode(data[:start] + damage + data[start + len(damage) :])
        assert status == GOOD and sorted(image.shape) == [3, 200, 250]


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_jpeg(decode, picture, options):
    assert_same(decode, encode(picture, "JPEG", **options))
    assert_same(decode, encode(picture[..., 0], "JPEG", **options))


def test_transparency_of_a_large_png_is_laid_on_white_strip_by_strip(decode, rng):
    tall = rng.integers(0, 256, (701, 641, 4), np.uint8)  # four strips, the last one short
    assert_same(decode, encode(tall, "PNG", compress_level=1), tolerance=1)


def test_png(decode, picture, rng):
    assert_same(decode, encode(picture, "PNG"))
    assert_same(decode, encode(picture[..., 0], "PNG"))
    alpha = rng.integers(0, 256, (*picture.shape[:2], 1), np.uint8)
    assert_same(decode, encode(np.concatenate([picture, alpha], -1), "PNG"), tolerance=1)
    stream = io.BytesIO()
    Image.fromarray(picture).quantize(64).save(stream, "PNG")
    assert_same(decode, stream.getvalue())


def test_png_with_16_bits_keeps_the_high_byte(decode, picture):
    stream = io.BytesIO()
    Image.fromarray(picture[..., 0].astype(np.uint16) * 257).save(stream, "PNG")
    assert_same(decode, stream.getvalue())


def test_bmp(decode, picture):
    assert_same(decode, encode(picture, "BMP"))
    stream = io.BytesIO()
    Image.fromarray(picture).quantize(200).save(stream, "BMP")
    assert_same(decode, stream.getvalue())
    assert_same(decode, encode(picture[..., 0], "BMP"))


def test_gif_gives_its_first_frame(decode, picture):
    stream = io.BytesIO()
    frames = [Image.fromarray(np.roll(picture, 40 * i, 0)) for i in range(4)]
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:], comment=b"many frames")
    assert_same(decode, stream.getvalue())


def png_header(width, height):
    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(100_000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


def gif_header(screen, frame, frames=1):
    descriptor = b"\x2c" + struct.pack("<HHHHB", 0, 0, *frame, 0) + b"\x02\x02\x4c\x01\x00"
    table = bytes([0, 0, 0, 255, 255, 255])
    return (
        b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80, 0, 0) + table + descriptor * frames + b";"
    )


@pytest.mark.parametrize(
    "data",
    [
        png_header(60_000, 60_000),
        png_header(2**31 - 1, 2**31 - 1),
        gif_header((65535, 65535), (1, 1)),
        gif_header((1, 1), (65535, 65535), frames=1000),
        b"BM" + bytes(12) + struct.pack("<IiiHHI", 40, 60_000, -60_000, 1, 24, 0) + bytes(60),
    ],
)
def test_images_with_too_many_pixels_are_refused_by_their_header(decode, data):
    assert decode(data)[1] == TOO_LARGE


def test_a_jpeg_with_too_many_pixels_is_refused(decode):
    assert decode(encode(np.zeros((1001, 1000), np.uint8), "JPEG"))[1] == TOO_LARGE
    assert decode(encode(np.zeros((1000, 1000), np.uint8), "JPEG"))[1] == GOOD


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF"])
def test_no_damage_ends_the_graph(decode, picture, rng, kind):
    whole = encode(picture[:60, :80], kind)
    damaged = [whole[:n] for n in rng.integers(0, len(whole), 12)]
    for _ in range(24):
        copy = bytearray(whole)
        for place in rng.integers(0, min(len(copy), rng.choice([60, 10_000])), 4):
            copy[place] = rng.integers(256)
        damaged.append(bytes(copy))
    statuses = {decode(data)[1] for data in damaged}
    assert statuses <= {GOOD, UNDECODABLE, TOO_LARGE} and UNDECODABLE in statuses


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"\xff\xd8\xff",
        b"BM",
        b"GIF89a",
        b"\x89PNG\r\n\x1a\n",
        b"<html></html>",
        b"RIFF",
    ],
)
def test_what_is_no_image_is_undecodable(decode, data):
    image, status = decode(data)
    assert status == UNDECODABLE and image.shape == (32, 32, 3)


def gif(blocks: bytes, before: bytes = b"") -> bytes:
    """One pixel, whose data are these blocks, behind other extensions."""
    screen = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes([0, 0, 0, 255, 255, 255])
    return (
        screen + before + b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02" + blocks + b"\0;"
    )


PIXEL = b"\x02\x4c\x01"


def jpeg_with_segments(count):
    data = encode(np.zeros((8, 8, 3), np.uint8), "JPEG")
    return data[:2] + b"\xff\xef\x00\x02" * count + data[2:]


def png_with_chunks(count):
    data = encode(np.zeros((8, 8, 3), np.uint8), "PNG")
    empty = struct.pack(">I", 0) + b"teSt" + struct.pack(">I", zlib.crc32(b"teSt"))
    return data[:33] + empty * count + data[33:]


@pytest.mark.parametrize(
    "data, status",
    [
        (gif(b"\x01\x44" * 500_000), GOOD),
        (gif(PIXEL, b"\x21\xfe" + b"\x01a" * 500_000 + b"\0"), GOOD),
        (gif(PIXEL, b"\x21\xfe\0" * 300_000), UNDECODABLE),
        (jpeg_with_segments(60_000), GOOD),
        (png_with_chunks(60_000), GOOD),
    ],
)
def test_many_small_pieces_of_a_file_do_not_stall_the_graph(decode, turns, data, status):
    """A turn of a loop in the graph takes 20 to 80 microseconds: one a piece was 2 to 60 s."""
    turns.clear()
    assert decode(data)[1] == status
    print(len(turns), "turns")
    assert len(turns) < 1000


def test_a_jpeg_of_many_scans_counts_as_larger(decode):
    """The decoder goes over all pixels for each scan: 4,000 of them took two minutes."""
    data = encode(np.full((600, 800, 3), 128, np.uint8), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    assert decode(data)[1] == GOOD
    assert decode(data[:last] + data[last:-2] * 4000 + data[-2:])[1] == TOO_LARGE


@pytest.mark.parametrize("size", [1, 200, 255])
def test_blocks_of_a_gif_may_be_of_any_size_and_cross_any_place(decode, picture, size):
    whole = encode(picture, "GIF")
    start = whole.index(b"\x2c", 13 + 3 * 256) + 11
    packed, position = b"", start
    while whole[position]:
        packed += whole[position + 1 : position + 1 + whole[position]]
        position += 1 + whole[position]
    parts = [packed[i : i + size] for i in range(0, len(packed), size)]
    blocks = b"".join(bytes([len(part)]) + part for part in parts)
    assert_same(decode, whole[:start] + blocks + b"\0;")
    assert decode(whole[:start] + blocks)[1] == UNDECODABLE


def test_transparency_and_comments_of_a_gif_change_nothing(decode, picture):
    stream = io.BytesIO()
    image = Image.fromarray(picture).quantize(8)
    image.save(stream, "GIF", transparency=3, comment=b"x" * 1000)
    data = stream.getvalue()
    np.testing.assert_array_equal(decode(data)[0], tf.io.decode_gif(data)[0])


def test_exif_of_a_png_is_found_behind_any_number_of_chunks(decode, picture):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(picture, "PNG", exif=exif)
    start = data.index(b"eXIf") - 4
    chunk = data[start : start + 12 + struct.unpack(">I", data[start : start + 4])[0]]
    without = data.replace(chunk, b"")
    end = without.rindex(b"IEND") - 4
    for moved in (without[:end] + chunk + without[end:], png_with_text(data)):
        image, status = decode(moved)
        assert status == GOOD and image.shape == (250, 200, 3)
    # The four letters alone are no such chunk.
    assert decode(png_with_text(without))[0].shape == (200, 250, 3)


def png_with_text(data):
    body = b"Comment\0eXIf and eXIf"
    head = struct.pack(">I", len(body)) + b"tEXt" + body
    return data[:33] + head + struct.pack(">I", zlib.crc32(b"tEXt" + body)) + data[33:]


def test_files_that_take_twice_the_memory_may_have_half_the_pixels(decode):
    image = np.zeros((1000, 501), np.uint8)
    assert decode(encode(image, "JPEG"))[1] == GOOD
    for kind in ("PNG", "BMP", "GIF"):
        assert decode(encode(image, kind))[1] == TOO_LARGE
        assert decode(encode(image[:, 1:], kind))[1] == GOOD
