"""What phones write: AVIF by Pillow itself, HEIC by the plugin pillow-heif."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps, features

from retinaface_tf.errors import ImageError
from retinaface_tf.images import decode
from retinaface_tf.images.listing import IMAGE_SUFFIXES, list_images, list_inputs, said_left_out
from retinaface_tf.images.read import read_image
from retinaface_tf.images.save import drawing_name, end_mark, mark_in

KINDS = ["AVIF", "HEIF"]


@pytest.fixture(params=KINDS)
def kind(request):
    if request.param == "AVIF" and not features.check("avif"):
        pytest.skip("needs a Pillow with AVIF")
    if request.param == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    return request.param


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """A smooth random image, 48 x 64, that no flip and no turn leaves as it is."""
    small = np.random.default_rng(7).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return cv2.resize(small, (64, 48), interpolation=cv2.INTER_CUBIC)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    stream = BytesIO()
    image.save(stream, kind, quality=100, subsampling="4:4:4", **options)
    return stream.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_orientations_are_turned_upright(kind, orientation, photo, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(photo)
    data = encoded(stored, kind, exif=exif.tobytes())
    stored.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(stored)).astype(int)
    path = tmp_path / f"photo.{kind.lower()}"
    path.write_bytes(data)
    for source in (data, path, Image.open(BytesIO(data))):
        pixels = read_image(source)
        assert pixels.shape == expected.shape
        assert np.abs(pixels - expected).mean() < 4
    assert decode.upright_size(decode.open_header(BytesIO(data))[0]) == expected.shape[:2]


def test_transparency_lies_on_white(kind, photo):
    rgba = np.dstack([photo, np.full(photo.shape[:2], 255, np.uint8)])
    rgba[:24, :32, 3] = 0
    pixels = read_image(encoded(Image.fromarray(rgba), kind)).astype(int)
    assert pixels[:16, :24].min() > 250
    assert np.abs(pixels[32:] - photo[32:]).mean() < 4


@pytest.mark.parametrize("part", [0.05, 0.5, 0.9])
def test_truncated_files_are_refused(kind, part, photo):
    data = encoded(Image.fromarray(photo), kind)
    with pytest.raises(ImageError, match=r"truncated|damaged"):
        read_image(data[: int(len(data) * part)])


def test_damaged_files_raise_nothing_but_image_error(kind, photo):
    random = np.random.default_rng(11)
    good = encoded(Image.fromarray(photo), kind)
    refused = 0
    for _ in range(200):
        data = bytearray(good)
        for place in random.integers(0, len(data), random.integers(1, 6)):
            data[place] = random.integers(256)
        try:
            assert read_image(bytes(data), max_pixels=10_000_000).dtype == np.uint8
        except ImageError:
            refused += 1
    assert refused > 10


def test_large_ones_are_refused_by_their_header(kind, photo):
    with pytest.raises(ImageError, match="64 x 48"):
        read_image(encoded(Image.fromarray(photo), kind), max_pixels=48 * 64 - 1)


def test_a_brand_shared_by_both_is_told_by_the_compatible_ones():
    def header(*brands):
        return (8 + 4 * len(brands)).to_bytes(4, "big") + b"ftyp" + b"".join(brands)

    assert decode.sniff_format(header(b"mif1", b"\0" * 4, b"mif1", b"avif")) == "AVIF"
    assert decode.sniff_format(header(b"mif1", b"\0" * 4, b"mif1", b"heic")) == "HEIC"
    assert decode.sniff_format(header(b"isom", b"\0" * 4, b"mp41")) == "video"


def test_they_are_listed_in_folders_where_they_can_be_read(kind, tmp_path):
    endings = [".avif"] if kind == "AVIF" else [".heic", ".HEIF", ".hif"]
    for ending in endings:
        (tmp_path / f"a{ending}").touch()
    assert sorted(name.suffix for _, name in list_images([tmp_path])) == sorted(endings)


def test_without_their_decoders_the_remedy_is_named(tmp_path, monkeypatch, photo):
    monkeypatch.setattr(decode, "READS_HEIC", False)
    monkeypatch.delitem(decode._PILLOW_READERS, "AVIF", raising=False)
    heic, avif = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", b"\0\0\0\x18ftypavif\0\0\0\0mif1"
    with pytest.raises(ImageError, match=r"is HEIC, .* pip install \"retinaface-tf\[heif\]\"\.$"):
        read_image(heic)
    with pytest.raises(ImageError, match=r"is AVIF, .* pip install --upgrade pillow\.$"):
        read_image(avif)
    kept = decode.readable_suffixes()
    assert not kept & {".avif", ".heic", ".heif", ".hif"} and kept < IMAGE_SUFFIXES
    for name in ("a.jpg", "b.heic", "c.HEIF", "d.avif"):
        (tmp_path / name).touch()
    left_out = said_left_out(list_inputs([tmp_path], kept).left_out)
    assert left_out.startswith("3 files left out: ")
    assert '1 HEIC (pip install "retinaface-tf[heif]")' in left_out
    assert "1 AVIF (pip install --upgrade pillow)" in left_out


def test_a_marked_avif_is_still_an_image(tmp_path, photo):
    if not features.check("avif"):
        pytest.skip("needs a Pillow with AVIF")
    path = Path(tmp_path / "a.avif")
    mark = end_mark(path, "retinaface-tf output 0123456789abcdef")
    path.write_bytes(encoded(Image.fromarray(photo), "AVIF") + mark)
    assert read_image(path).shape == photo.shape
    assert mark_in(path) == "retinaface-tf output 0123456789abcdef"
    content = path.read_bytes()
    place = content.index(b"free") - 4
    assert int.from_bytes(content[place : place + 4], "big") == len(content) - place


def test_a_drawing_of_heic_is_a_jpeg_beside_that_of_a_jpeg_of_its_name():
    names = [Path("p/a.HEIC"), Path("a.heif"), Path("a.avif"), Path("a.jpg"), Path("a")]
    drawn = [Path("p/a.HEIC.jpg"), Path("a.heif.jpg"), *names[2:]]
    assert [drawing_name(name) for name in names] == drawn
