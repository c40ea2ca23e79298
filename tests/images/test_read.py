"""Images of every kind people have, checked against values chosen here or decoded by others."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
import textwrap
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from retinaface_tf.errors import ImageError
from retinaface_tf.images.listing import list_images
from retinaface_tf.images.read import describe_source, file_content, read_image


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    stream = BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def refusal(source, **options) -> str:
    """The message; checked to be one sentence, and the only thing that comes out."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError) as caught:
            read_image(source, **options)
    message = str(caught.value)
    name = describe_source(source)
    assert message.startswith(f"Cannot read {name}: ")
    reason = message.removeprefix(f"Cannot read {name}: ")
    assert re.fullmatch(r"[^\n]*[^.\n]\.", reason) and ". " not in reason
    return reason


@pytest.fixture(scope="module")
def colours() -> np.ndarray:
    """Four 16 x 16 patches (red, green / blue, grey): JPEG keeps them, and no flip is symmetric."""
    patches = np.array([[[200, 30, 40], [30, 180, 60]], [[20, 60, 210], [128, 128, 128]]], np.uint8)
    return patches.repeat(16, axis=0).repeat(24, axis=1)


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """A smooth random image, 48 x 64."""
    small = np.random.default_rng(7).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(small, (64, 48), interpolation=cv2.INTER_CUBIC)


LOSSLESS = {"PNG": {}, "WebP": {"lossless": True}, "BMP": {}, "TIFF": {}}


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_rgb_comes_back_exactly(kind, photo):
    data = encoded(Image.fromarray(photo), kind, **LOSSLESS[kind])
    for source in (data, bytearray(data), memoryview(data), Image.open(BytesIO(data))):
        pixels = read_image(source)
        assert pixels.dtype == np.uint8
        np.testing.assert_array_equal(pixels, photo)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
def test_compressed_tiff(compression, colours):
    pixels = read_image(encoded(Image.fromarray(colours), "TIFF", compression=compression))
    np.testing.assert_allclose(pixels, colours, atol=6 if compression == "jpeg" else 0)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_jpeg_colours_and_their_order(options, colours):
    pixels = read_image(encoded(Image.fromarray(colours), "JPEG", quality=95, **options))
    assert pixels.shape == colours.shape
    np.testing.assert_allclose(pixels[8::16, 12::24], colours[8::16, 12::24], atol=6)


def test_jpeg_pixels_are_those_of_pillow(photo):
    for mode in ("RGB", "L"):
        data = encoded(Image.fromarray(photo).convert(mode), "JPEG")
        expected = np.asarray(Image.open(BytesIO(data)).convert("RGB")).astype(int)
        assert np.abs(read_image(data) - expected).max() <= 1


@pytest.mark.parametrize("kind", ["JPEG", *LOSSLESS, "GIF"])
def test_grey_fills_all_three_channels(kind):
    grey = np.arange(0, 256, 4, np.uint8)[None].repeat(16, axis=0)
    data = encoded(Image.fromarray(grey), kind, **LOSSLESS.get(kind, {}))
    pixels = read_image(data)
    np.testing.assert_allclose(pixels, grey[..., None].repeat(3, axis=2), atol=2 * (kind == "JPEG"))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF"])
def test_one_bit_is_black_and_white(kind):
    bits = np.eye(16, 24, dtype=bool)
    pixels = read_image(encoded(Image.fromarray(bits), kind))
    np.testing.assert_array_equal(pixels, np.uint8(255) * bits[..., None].repeat(3, axis=2))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF"])
def test_palette(kind, colours):
    pixels = read_image(encoded(Image.fromarray(colours).quantize(4, dither=0), kind))
    np.testing.assert_allclose(pixels, colours, atol=2)


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_transparent_palette_entry_shows_white(kind, colours):
    image = Image.fromarray(colours).quantize(4, dither=0)
    entry = image.getpixel((0, 0))
    pixels = read_image(encoded(image, kind, transparency=entry))
    assert (pixels[:16, :24] == 255).all()
    np.testing.assert_allclose(pixels[16:], colours[16:], atol=2)


@pytest.mark.parametrize("kind", ["PNG", "WebP", "TIFF"])
def test_rgba_lies_on_white(kind, colours):
    alpha = np.full((*colours.shape[:2], 1), 255, np.uint8)
    alpha[:16], alpha[16:24] = 0, 51
    rgba = np.concatenate([colours, alpha], axis=2)
    expected = np.round(255 + (colours - 255.0) * alpha / 255)
    data = encoded(Image.fromarray(rgba), kind, **LOSSLESS[kind])
    for source in (data, rgba, Image.fromarray(rgba)):
        np.testing.assert_allclose(read_image(source), expected, atol=1)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_grey_with_alpha_lies_on_white(kind):
    image = Image.new("LA", (5, 4), (100, 255))
    image.putpixel((2, 1), (100, 0))
    pixels = read_image(encoded(image, kind))
    assert (pixels[1, 2] == 255).all() and (pixels[0, 0] == 100).all()


def test_colour_key_of_png_shows_white(colours):
    data = encoded(Image.fromarray(colours), "PNG", transparency=tuple(map(int, colours[0, 0])))
    pixels = read_image(data)
    assert (pixels[:16, :24] == 255).all()
    np.testing.assert_array_equal(pixels[16:], colours[16:])


@pytest.mark.parametrize("kind", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_are_scaled_not_clipped(kind, channels):
    deep = np.random.default_rng(3).integers(0, 65536, (20, 30, channels)).astype(np.uint16)
    deep[0, 0, :3] = 65535
    if channels == 4:
        deep[..., 3] = 65535
    data = cv2.imencode(kind, deep)[1].tobytes()  # OpenCV takes BGR
    shown = deep[..., :3][..., ::-1] if channels > 1 else deep.repeat(3, axis=2)
    np.testing.assert_allclose(read_image(data), shown / 257, atol=1)


def test_sixteen_bit_grey_with_alpha():
    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    row = b"\0" + struct.pack(">4H", 40000, 65535, 40000, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 4, 0, 0, 0))
    data += chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    np.testing.assert_array_equal(read_image(data), [[[40000 >> 8] * 3, [255] * 3]])


@pytest.mark.parametrize(
    ("order", "photometric"),
    [("<", "minisblack"), ("<", "miniswhite"), ("<", "rgb"), (">", "minisblack"), (">", "rgb")],
)
def test_sixteen_bit_tiff_of_both_byte_orders(order, photometric):
    tifffile = pytest.importorskip("tifffile")
    deep = np.random.default_rng(4).integers(0, 65536, (20, 30, 3)).astype(np.uint16)
    written = deep if photometric == "rgb" else deep[..., 0]
    stream = BytesIO()
    tifffile.imwrite(stream, written, byteorder=order, photometric=photometric, compression="zlib")
    shown = deep if photometric == "rgb" else deep[..., :1].repeat(3, axis=2)
    shown = 65535 - shown.astype(int) if photometric == "miniswhite" else shown
    np.testing.assert_allclose(read_image(stream.getvalue()), shown / 257, atol=1)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int16", "int8", "uint32"])
def test_tiff_without_a_known_black_and_white_is_refused(dtype):
    tifffile = pytest.importorskip("tifffile")
    stream = BytesIO()
    tifffile.imwrite(stream, np.ones((8, 9), dtype))
    assert "save it" in refusal(stream.getvalue())


def test_sixteen_bit_tiff_in_planes_is_refused():
    tifffile = pytest.importorskip("tifffile")
    stream = BytesIO()
    tifffile.imwrite(stream, np.ones((3, 8, 9), "u2"), photometric="rgb", planarconfig="separate")
    assert "planes" in refusal(stream.getvalue())


def test_cmyk_jpeg_is_inverted_where_adobe_says_so(colours):
    cmyk = Image.fromarray(colours).convert("CMYK")
    for kind in ("JPEG", "TIFF"):
        options = {"quality": 95} if kind == "JPEG" else {}
        pixels = read_image(encoded(cmyk, kind, **options))
        np.testing.assert_allclose(pixels[8::16, 12::24], colours[8::16, 12::24], atol=8)


def test_ycck_jpeg(colours):
    # Pillow writes plain CMYK (Adobe transform 0). Relabelled, its planes are Y, Cb, Cr, K: pixels
    # that mean something else, in a way that any reader of YCCK must agree on.
    data = encoded(Image.fromarray(colours).convert("CMYK"), "JPEG", quality=95, subsampling=0)
    place = data.index(b"Adobe") + 11
    data = data[:place] + b"\x02" + data[place + 1 :]
    y, cb, cr, k = (255.0 - np.asarray(Image.fromarray(colours).convert("CMYK"))[8, 12]).tolist()
    inverse = [y + 1.402 * (cr - 128), y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128)]
    inverse.append(y + 1.772 * (cb - 128))
    ink = 255 - np.clip(inverse, 0, 255)  # libjpeg: C = 255 - R
    expected = (255 - (255 - ink)) * k / 255
    np.testing.assert_allclose(read_image(data)[8, 12], expected, atol=6)


def test_only_the_first_frame_of_an_animation(colours):
    frames = [Image.fromarray(colours), Image.new("RGB", colours.shape[1::-1], "white")]
    for kind in ("GIF", "WebP", "TIFF"):
        options = {"lossless": True} if kind == "WebP" else {}
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        np.testing.assert_allclose(read_image(data), colours, atol=8 if kind == "GIF" else 0)


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("JPEG", "RGB"),
        ("JPEG", "L"),
        ("JPEG", "CMYK"),
        ("PNG", "RGB"),
        ("PNG", "P"),
        ("WebP", "RGB"),
        ("TIFF", "RGB"),
        ("TIFF", "CMYK"),
    ],
)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(kind, mode, orientation, photo):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WebP" else {}
    data = encoded(Image.fromarray(photo).convert(mode), kind, exif=exif, **options)
    with Image.open(BytesIO(data)) as image:
        image.load()
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    for source in (data, Image.open(BytesIO(data))):
        pixels = read_image(source)
        assert pixels.shape == expected.shape
        np.testing.assert_allclose(pixels, expected, atol=1)
    assert expected.shape == ((48, 64, 3) if orientation < 5 else (64, 48, 3))


def test_damaged_exif_does_not_cost_the_image(photo):
    data = encoded(Image.fromarray(photo), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(data).shape == photo.shape


def test_colour_kinds_of_pillow_images(colours):
    image = Image.fromarray(colours)
    for mode in ("RGBA", "RGBX", "YCbCr", "HSV", "CMYK", "RGBa", "P"):
        np.testing.assert_allclose(
            read_image(image.convert(mode))[8::16, 12::24], colours[8::16, 12::24], atol=40
        )
    for mode in ("1", "L", "LA", "La", "PA", "I;16"):
        source = Image.new(mode, (5, 4))
        assert read_image(source).shape == (4, 5, 3)
    for mode in ("F", "I"):
        assert "8 bits" in refusal(Image.new(mode, (5, 4)))
    lab = ImageCms.profileToProfile(
        image, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    np.testing.assert_allclose(read_image(lab), colours, atol=6)


def test_rgb_array_is_not_copied(photo):
    assert read_image(photo) is photo
    assert read_image(photo[::-1]).base is photo


def test_grey_arrays(photo):
    grey = photo[..., 0]
    for source in (grey, grey[..., None], grey.T.copy().T):
        np.testing.assert_array_equal(read_image(source), grey[..., None].repeat(3, axis=2))


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (3000, 3), (3, 5000)])
def test_extreme_shapes_are_read(shape):
    pixels = np.full((*shape, 3), 77, np.uint8)
    np.testing.assert_array_equal(read_image(encoded(Image.fromarray(pixels), "PNG")), pixels)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((4, 5, 3), np.float32), ["float32", "multiply by 255 and cast to uint8"]),
        (np.full((4, 5, 3), 200.0), ["float64", "0..255 and cast to uint8"]),
        (np.full((4, 5, 3), np.nan), ["NaN"]),
        (np.zeros((4, 5, 3), bool), ["bool", "multiply by 255"]),
        (np.zeros((4, 5, 3), np.uint16), ["uint16", "257"]),
        (np.zeros((4, 5, 3), np.int64), ["int64", "cast to uint8"]),
        (np.full((4, 5, 3), None), ["object"]),
        (np.zeros((4, 5, 2), np.uint8), ["(4, 5, 2)"]),
        (np.zeros((4, 5, 5), np.uint8), ["(4, 5, 5)", "transpose"]),
        (np.zeros((3, 40, 50), np.uint8), ["(3, 40, 50)", "transpose(1, 2, 0)"]),
        (np.zeros((0, 5, 3), np.uint8), ["(0, 5, 3)", "no pixels"]),
        (np.zeros((5, 0, 3), np.uint8), ["(5, 0, 3)", "no pixels"]),
        (np.zeros((0, 0), np.uint8), ["no pixels"]),
        (np.zeros((2, 4, 5, 3), np.uint8), ["batch"]),
        (np.zeros(7, np.uint8), ["(7,)"]),
        (np.array(7, np.uint8), ["()"]),
    ],
)
def test_arrays_that_are_no_images(array, words):
    message = refusal(array)
    assert all(word in message for word in words), message


def test_things_that_are_no_images():
    for thing in (None, 7, [1, 2], object()):
        assert "path" in refusal(thing)
    assert "empty" in refusal(Image.new("RGB", (0, 5)))
    assert "empty" in refusal(b"")


def test_names_that_are_no_files(tmp_path):
    assert "no such file" in refusal(tmp_path / "absent.jpg")
    assert "no such file" in refusal(str(tmp_path / "absent.jpg"))
    assert "no such file" in refusal("absent\udcff.jpg")
    assert "http and https are read" in refusal("ftp://example.org/face.jpg")
    assert "folder" in refusal(tmp_path)
    assert "folder" in refusal("") or "no such file" in refusal("")
    with pytest.raises(ImageError, match="too long"):
        read_image("x" * 5000)
    with pytest.raises(ImageError, match="not a file name"):
        read_image("a\0b.jpg")
    if Path("/dev/null").exists():
        assert "device" in refusal("/dev/null")


def test_unreadable_file(tmp_path, monkeypatch):
    path = tmp_path / "mine.jpg"
    path.write_bytes(b"x")
    path.chmod(0)
    if os.access(path, os.R_OK):  # root may read everything

        def no_open(*args, **options):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", no_open)
    assert "permission denied" in refusal(path)


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("empty.jpg", b"", "empty"),
        ("text.jpg", b"This is no image. Really.\n" * 40, "not an image"),
        ("page.png", b"\n<!DOCTYPE html><html></html>", "HTML"),
        ("logo.png", b'<?xml version="1.0"?>\n<svg xmlns="x"></svg>', "SVG"),
        ("paper.jpg", b"%PDF-1.7\n", "PDF"),
        ("start.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        ("start.avif", b"\0\0\0\x18ftypavif\0\0\0\0mif1", "AVIF"),
        ("film.jpg", b"\0\0\0\x18ftypisom\0\0\0\0", "video"),
        ("archive.jpg", b"PK\x03\x04abc", "ZIP"),
        ("start.jpg", b"\xff\xd8\xff", "truncated"),
        ("start.png", b"\x89PNG\r\n\x1a\n", "PNG"),
        ("start.tif", b"II*\0", "TIFF"),
        ("start.gif", b"GIF89a", "GIF"),
        ("start.webp", b"RIFF\0\0\0\0WEBP", "WebP"),
        ("start.bmp", b"BM", "BMP"),
    ],
)
def test_files_that_are_no_images(tmp_path, name, content, word):
    path = tmp_path / name
    path.write_bytes(content)
    message = refusal(path)
    assert word in message or (name.startswith("start") and "truncated" in message), message


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP", "BMP", "TIFF", "GIF"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
def test_truncated_files_are_refused(kind, part, photo, tmp_path):
    data = encoded(Image.fromarray(photo), kind)
    path = tmp_path / f"cut.{kind.lower()}"
    path.write_bytes(data[: int(len(data) * part)])
    refusal(path)


def test_jpeg_is_refused_as_soon_as_its_end_is_missing(photo):
    thumbnail = encoded(Image.fromarray(photo).resize((8, 6)), "JPEG")
    for options in ({}, {"progressive": True}, {"exif": b"Exif\0\0" + thumbnail}):
        data = encoded(Image.fromarray(photo), "JPEG", **options)
        assert read_image(data + bytes(100)).shape == photo.shape  # padding is no harm
        for cut in (2, 3, 20, 200):
            assert "truncated" in refusal(data[:-cut])
        assert "truncated" in refusal(data[:-200] + bytes(20_000))  # a download that stopped


@pytest.mark.parametrize("chunk", [b"IHDR", b"IDAT"])
def test_png_with_a_wrong_checksum_is_refused(chunk, photo):
    data = bytearray(encoded(Image.fromarray(photo), "PNG"))
    start = data.index(chunk)
    (length,) = struct.unpack(">I", data[start - 4 : start])
    data[start + 4 + length] ^= 1
    assert "damaged" in refusal(bytes(data))


def test_large_images_are_refused_by_their_header(photo):
    assert read_image(photo, max_pixels=48 * 64) is photo
    for source in (
        photo,
        Image.fromarray(photo),
        *(encoded(Image.fromarray(photo), kind) for kind in ("JPEG", "PNG", "WebP", "TIFF", "GIF")),
    ):
        message = refusal(source, max_pixels=48 * 64 - 1)
        assert "64 x 48" in message and "load_image(..., max_pixels=3_072)" in message


def test_huge_canvas_of_an_animation_is_refused():
    def u24(value):
        return struct.pack("<I", value)[:3]

    def chunk(kind, body):
        return kind + struct.pack("<I", len(body)) + body

    still = encoded(Image.new("RGB", (8, 8)), "WebP", lossless=True)[12:]
    frame = u24(0) + u24(0) + u24(7) + u24(7) + u24(100) + b"\0" + still
    body = b"WEBP" + chunk(b"VP8X", b"\x02\0\0\0" + u24(16382) + u24(16382))
    body += chunk(b"ANIM", bytes(6)) + chunk(b"ANMF", frame)
    assert "pixels" in refusal(chunk(b"RIFF", body))


BOMB = """
    import resource, struct, sys, zlib
    from retinaface_tf.errors import ImageError
    from retinaface_tf.images.read import read_image

    side, path = 20_000, sys.argv[1]
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    packer, row = zlib.compressobj(9), bytes(1 + 3 * side)
    body = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    with open(path, "wb") as file:
        file.write(b"\\x89PNG\\r\\n\\x1a\\n")
        file.write(chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)))
        file.write(chunk(b"IDAT", body) + chunk(b"IEND", b""))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for source in (path, open(path, "rb").read()):
        try:
            read_image(source)
        except ImageError as error:
            print(error)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_huge_png_is_refused_in_little_memory(tmp_path):
    pytest.importorskip("resource")
    path = tmp_path / "huge.png"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(BOMB), str(path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    first, second, megabytes = done.stdout.splitlines()
    assert first == (
        f"Cannot read {path}: its 20000 x 20000 pixels are more than the limit of 128,000,000; "
        "make it smaller, or give it as load_image(..., max_pixels=400_000_000)."
    )
    assert "the bytes given" in second
    assert int(megabytes) < 50
    assert done.stderr == ""


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP", "BMP", "TIFF", "GIF"])
def test_damaged_files_raise_nothing_but_image_error(kind, photo, recwarn):
    random = np.random.default_rng(11)
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"exif": exif} if kind not in ("BMP", "GIF") else {}
    good = encoded(Image.fromarray(photo), kind, **options)
    refused = 0
    for _ in range(300 if kind == "JPEG" else 100):
        data = bytearray(good)
        for place in random.integers(0, len(data), random.integers(1, 6)):
            data[place] = random.integers(256)
        if random.random() < 0.3:
            del data[random.integers(1, len(data)) :]
        try:
            pixels = read_image(bytes(data), max_pixels=10_000_000)
        except ImageError as error:
            refused += 1
            assert str(error).startswith("Cannot read the bytes given: ")
        else:
            assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3
    assert refused > 10
    assert not recwarn.list


def test_many_threads_read_the_same(colours, photo):
    sources = [
        encoded(Image.fromarray(picture), kind, **options)
        for picture in (colours, photo)
        for kind, options in {**LOSSLESS, "JPEG": {}}.items()
    ]
    alone = [read_image(source) for source in sources]
    filters = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            for expected, pixels in zip(alone, pool.map(read_image, sources)):
                np.testing.assert_array_equal(pixels, expected)
    assert warnings.filters == filters


def test_listing(tmp_path, monkeypatch):
    for name in (
        "b.JPG",
        "a.png",
        "notes.txt",
        "sub/c.webp",
        ".hidden.jpg",
        ".git/d.jpg",
        "[x].gif",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    folder = ["[x].gif", "a.png", "b.JPG", "sub/c.webp"]
    assert list_images([tmp_path]) == [(tmp_path / name, Path(name)) for name in folder]
    assert list_images(["*.p?g", "sub", "[x].gif"]) == [
        (Path("a.png"), Path("a.png")),
        (Path("sub/c.webp"), Path("c.webp")),
        (Path("[x].gif"), Path("[x].gif")),
    ]
    assert [path.name for path, _ in list_images(["**/*.webp"])] == ["c.webp"]
    # A named file stays, whatever it is; names of results never collide.
    assert list_images(["absent.jpg", "notes.txt", "a.png", "./a.png"]) == [
        (Path("absent.jpg"), Path("absent.jpg")),
        (Path("notes.txt"), Path("notes.txt")),
        (Path("a.png"), Path("a.png")),
        (Path("a.png"), Path("a_2.png")),
    ]
    (tmp_path / "none").mkdir()
    with pytest.raises(ImageError, match="none: the folder holds no images"):
        list_images(["none"])
    with pytest.raises(ImageError, match="no file matches"):
        list_images(["*.tiff"])


def test_a_sparse_file_is_refused_unread(tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded(Image.new("RGB", (8, 8)), "JPEG"))
    os.truncate(path, 30 << 30)
    for read in (read_image, file_content):
        with pytest.raises(ImageError, match=r"photo\.jpg: it has more than 1 GiB"):
            read(path)
