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
def decode():
    traced = tf.function(
        lambda data: decode_upright(data, MAX_PIXELS),
        input_signature=[tf.TensorSpec([], tf.string)],
    )

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
