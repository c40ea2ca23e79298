"""A photo's file written again with other pixels."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageCms, JpegImagePlugin

from retinaface_tf.errors import ImageError
from retinaface_tf.images.read import read_image
from retinaface_tf.images.rewrite import PhotoFile


@pytest.fixture(scope="module")
def pixels():
    y, x = np.mgrid[:48, :64]
    return np.stack([4 * x, 5 * y, 2 * (x + y)], axis=2).astype(np.uint8)


def encoded(pixels, kind, mode="RGB", **options):
    content = BytesIO()
    Image.fromarray(pixels).convert(mode).save(content, kind, **options)
    return content.getvalue()


def with_a_black_square(content):
    photo = PhotoFile(content)
    frames = [frame.copy() for frame in photo.frames]
    for frame in frames:
        frame[8:24, 8:24] = 0
    return frames, photo.encode(frames)


@pytest.mark.parametrize(
    "kind, mode, options",
    [
        ("JPEG", "RGB", {"quality": 71, "subsampling": 0}),
        ("JPEG", "L", {"quality": 95}),
        ("JPEG", "CMYK", {}),
        ("PNG", "RGB", {}),
        ("PNG", "L", {}),
        ("PNG", "1", {}),
        ("PNG", "P", {}),
        ("PNG", "I;16", {}),
        ("WEBP", "RGB", {"lossless": True}),
        ("WEBP", "RGB", {"quality": 80}),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}),
        ("TIFF", "1", {"compression": "group4"}),
        ("BMP", "RGB", {}),
        ("GIF", "P", {}),
        ("AVIF", "RGB", {}),
    ],
)
def test_the_format_stays_and_the_new_pixels_are_there(pixels, kind, mode, options):
    if mode == "I;16":
        content = BytesIO()
        Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(content, kind)
        content = content.getvalue()
    else:
        content = encoded(pixels, kind, mode, **options)
    (wanted,), written = with_a_black_square(content)
    assert Image.open(BytesIO(written)).format == kind
    lossless = kind in ("PNG", "BMP", "TIFF") or options.get("lossless")
    assert abs(read_image(written).astype(int) - wanted).mean() <= (0 if lossless else 4)
    assert not read_image(written)[12:20, 12:20].max() > 12


def test_a_jpeg_keeps_its_quality_profile_and_resolution(pixels):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    saved = {"quality": 71, "subsampling": 1, "progressive": True, "dpi": (300, 300)}
    content = encoded(pixels, "JPEG", icc_profile=profile, **saved)
    before = Image.open(BytesIO(content))
    _, written = with_a_black_square(content)
    after = Image.open(BytesIO(written))
    assert after.quantization == before.quantization
    assert JpegImagePlugin.get_sampling(after) == 1
    assert {"progressive", "dpi"} <= set(after.info) and after.info["dpi"] == (300, 300)
    assert after.info["icc_profile"] == profile


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_facts_stay_and_previews_do_not(pixels, kind):
    exif = Image.Exif()
    exif[271], exif[274], exif[306] = "Maker", 6, "2026:01:02 03:04:05"
    exif[34665] = {37500: b"PREVIEW" * 9, 40962: 64, 40963: 48, 33434: 0.01}
    exif[34853] = {1: "N", 2: (47.0, 30.0, 0.0)}
    exif[700] = exif[34377] = b"PREVIEW" * 9  # XMP and Photoshop's block, as TIFF has them
    content = encoded(
        pixels, kind, exif=exif.tobytes(), **({"xmp": b"PREVIEW"} if kind == "JPEG" else {})
    )
    if kind == "JPEG":  # a thumbnail, as cameras write it
        content = content.replace(b"\xff\xd9", b"") + b"\xff\xd9" + b"PREVIEW in a second picture"
    assert b"PREVIEW" in content
    (wanted,), written = with_a_black_square(content)
    assert wanted.shape == (64, 48, 3)  # turned upright
    assert b"PREVIEW" not in written
    assert read_image(written).shape == wanted.shape
    after = Image.open(BytesIO(written)).getexif()
    assert after[271] == "Maker" and after[306] == "2026:01:02 03:04:05"
    assert after.get(274, 1) == 1
    assert after.get_ifd(34853)[1] == "N"
    inner = after.get_ifd(34665)
    assert (inner[40962], inner[40963]) == (48, 64) and float(inner[33434]) == pytest.approx(0.01)


def test_a_thumbnail_is_gone(pixels):
    thumbnail = encoded(pixels[::4, ::4], "JPEG")
    head = (
        b"II*\0\x08\0\0\0"
        + b"\x01\0"
        + (0x112).to_bytes(2, "little")
        + b"\x03\0\x01\0\0\0\x01\0\0\0"
    )
    first_end = len(head) + 4
    entries = ((0x103, 3, 6), (0x201, 4, first_end + 42), (0x202, 4, len(thumbnail)))
    second = (3).to_bytes(2, "little") + b"".join(
        tag.to_bytes(2, "little")
        + kind.to_bytes(2, "little")
        + (1).to_bytes(4, "little")
        + value.to_bytes(4, "little")
        for tag, kind, value in entries
    )
    block = head + first_end.to_bytes(4, "little") + second + bytes(4) + thumbnail
    content = encoded(pixels, "JPEG", exif=b"Exif\0\0" + block)
    assert thumbnail in content
    _, written = with_a_black_square(content)
    assert thumbnail[-60:] not in written and written.count(b"\xff\xd8\xff") == 1


def test_transparency_stays_where_it_was(pixels):
    alpha = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (48, 1))
    content = encoded(np.dstack([pixels, alpha]), "PNG", "RGBA")
    _, written = with_a_black_square(content)
    after = np.asarray(Image.open(BytesIO(written)))
    assert (after[..., 3] == alpha).all() and not after[8:24, 8:24, :3].any()
    assert (after[30:, :, :3] == pixels[30:]).all()


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_no_frame_is_lost(pixels, kind):
    frames = [Image.fromarray(np.roll(pixels, 9 * k, axis=1)) for k in range(3)]
    content = BytesIO()
    timed = {} if kind == "TIFF" else {"duration": [40, 80, 120], "loop": 3}
    frames[0].save(content, kind, save_all=True, append_images=frames[1:], **timed)
    new, written = with_a_black_square(content.getvalue())
    after = Image.open(BytesIO(written))
    assert after.n_frames == len(new) == 3
    for number, wanted in enumerate(new):
        after.seek(number)
        after.load()
        assert abs(np.asarray(after.convert("RGB")).astype(int) - wanted).mean() < 8
        if timed:
            assert after.info["duration"] == timed["duration"][number]
    assert not timed or after.info["loop"] == 3


def test_what_is_no_file_is_refused(pixels, tmp_path):
    with pytest.raises(ImageError, match="not an image file"):
        PhotoFile(pixels)
    cut = encoded(pixels, "PNG")[:90]
    with pytest.raises(ImageError, match="truncated"):
        PhotoFile(cut)
    with pytest.raises(ImageError, match="no such file"):
        PhotoFile(tmp_path / "none.jpg")
