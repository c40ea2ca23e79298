"""From encoded bytes to upright RGB pixels: which decoder, EXIF orientation, what is refused.

Pillow reads every format, HEIC by the plugin pillow-heif. Ordinary JPEG files, most of what people
have, are decoded by OpenCV after Pillow has read their header: both use libjpeg-turbo and give the
same pixels, but OpenCV writes them straight into the array (1.1 to 1.8 times as fast, more so for
large photos).
"""

import importlib.util
import os
import threading
import warnings
from collections.abc import Callable
from io import BytesIO
from typing import BinaryIO

import cv2
import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
    features,
)

from retinaface_tf.errors import RetinaFaceError
from retinaface_tf.util.extras import remedy

HEADER_BYTES = 512
# Images with more pixels are refused by their header. Either limit means about 0.8 GB while one image
# is decoded: JPEG goes straight into 3 bytes a pixel, the others through 4 more in Pillow.
MAX_PIXELS, MAX_JPEG_PIXELS = 128_000_000, 256_000_000
# OpenCV's flags that shrink a JPEG by so much while it is decoded (those of colour mean BGR).
_REDUCED = {
    1: 0,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}


class UnreadableError(Exception):
    """Why an image cannot be read: the end of a sentence, "Cannot read NAME: ..."."""


# The plugin classes are called directly: Image.open() would try formats that nobody asked for
# (some start other programs) and warns of, or refuses, large images by a limit of its own.
_PILLOW_READERS = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "GIF": GifImagePlugin.GifImageFile,
}
if features.check("avif"):
    _PILLOW_READERS["AVIF"] = AvifImagePlugin.AvifImageFile
READS_AVIF = "AVIF" in _PILLOW_READERS
READS_HEIC = importlib.util.find_spec("pillow_heif") is not None
HEIC_SUFFIXES = (".heic", ".heif", ".hif")
_SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WebP": (".webp",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
    "AVIF": (".avif",),
    "HEIC": HEIC_SUFFIXES,
}
# The least (height, width) that is needed of an upright image of this height and width.
WantedSize = Callable[[int, int], tuple[int, int]]
# What is missing where a format cannot be read.
REMEDIES = {
    "AVIF": "pip install --upgrade pillow",
    "HEIC": remedy("heif"),
}
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_ORIENTATION_TAG = 0x0112
_JPEG_END = b"\xff\xd9"
_TRUNCATED = "it is truncated, its end is missing; fetch or copy it again"


def sniff_format(header: bytes) -> str | None:
    """Name of the file format by its first `HEADER_BYTES` bytes, or None if unknown."""
    text = header.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    brands = _brands(header)
    kinds = {
        "JPEG": header.startswith(b"\xff\xd8\xff"),
        "PNG": header.startswith(b"\x89PNG\r\n\x1a\n"),
        "WebP": header.startswith(b"RIFF") and header[8:12] == b"WEBP",
        "BMP": header.startswith(b"BM"),
        "TIFF": header[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
        "GIF": header[:6] in (b"GIF87a", b"GIF89a"),
        "AVIF": bool(brands & {b"avif", b"avis"}),
        "HEIC": bool(brands & _HEIC_BRANDS),
        "video": bool(brands) or header.startswith(b"\x1aE\xdf\xa3"),
        "PDF": header.startswith(b"%PDF"),
        "SVG": b"<svg" in text,
        "HTML": text.startswith((b"<!doctype html", b"<html")),
        "JPEG XL": header.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL ")),
        "JPEG 2000": header.startswith((b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")),
        "Photoshop": header.startswith(b"8BPS"),
        "ZIP": header.startswith(b"PK\x03\x04"),
    }
    return next((kind for kind, found in kinds.items() if found), None)


def _brands(header: bytes) -> set[bytes]:
    """What a file of the MP4 family says that it is: its major brand and the compatible ones."""
    if header[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(header[:4], "big"), len(header))
    return {header[8:12], *(header[i : i + 4] for i in range(16, end - 3, 4))}


def readable_suffixes() -> frozenset[str]:
    """Endings of the names of files that can be read here, in lower case."""
    readable = {*_PILLOW_READERS, *(["HEIC"] if READS_HEIC else [])}
    return frozenset(suffix for kind in readable for suffix in _SUFFIXES[kind])


def open_header(stream: BinaryIO, max_pixels: int | None = None) -> tuple[Image.Image, str]:
    """Pillow's image of an encoded file, not yet decoded, and the name of its format.

    Args:
        stream: open, seekable, at its start; it is read when the image is loaded.
        max_pixels: larger images are refused; None for the format's own limit, `MAX_PIXELS` or
            `MAX_JPEG_PIXELS`.

    Raises:
        UnreadableError: unknown format, a damaged header, or too large.
    """
    header = stream.read(HEADER_BYTES)
    stream.seek(0)
    if not header:
        raise UnreadableError("it is empty")
    kind = sniff_format(header)
    reader = _pillow_reader(kind)
    with quiet_pillow:
        try:
            image = reader(stream)
        except Exception as error:  # Pillow raises a dozen kinds, SyntaxError among them
            raise UnreadableError(_explain(error, kind)) from error
    limit = MAX_JPEG_PIXELS if kind == "JPEG" else MAX_PIXELS
    check_size(*image.size, limit if max_pixels is None else max_pixels)
    return image, kind


def _pillow_reader(kind: str | None) -> Callable[[BinaryIO], Image.Image]:
    if kind in _PILLOW_READERS:
        return _PILLOW_READERS[kind]
    if kind == "HEIC" and READS_HEIC:
        from pillow_heif import HeifImageFile

        return HeifImageFile
    if kind in REMEDIES:
        raise UnreadableError(f"its format is {kind}, which needs: {REMEDIES[kind]}")
    found = f"its format is {kind}" if kind else "it is not an image"
    raise UnreadableError(f"{found}; give a JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF or HEIC image")


def decode(
    stream: BinaryIO,
    max_pixels: int | None = None,
    wanted: WantedSize | None = None,
) -> tuple[np.ndarray, tuple[int, int]]:
    """The first image of an encoded file.

    Args:
        stream: open, seekable, at its start.
        max_pixels: larger images are refused by their header, see `open_header`.
        wanted: a JPEG comes shrunk by 2, 4 or 8 to no less than this: libjpeg then leaves out
            most of its work. None for all pixels.

    Returns:
        RGB uint8 [H, W, 3], upright (EXIF orientation applied), see `rgb_pixels`; and the (height,
        width) of the whole upright image.

    Raises:
        UnreadableError: unknown format, damaged, truncated or too large.
        RetinaFaceError: as `wanted` raises.
    """
    if sniff_format(stream.read(HEADER_BYTES)) == "JPEG":
        stream.seek(0)
        stream = BytesIO(stream.read())
        if stream.getvalue().rfind(_JPEG_END) < 0:
            raise UnreadableError(_TRUNCATED)
    stream.seek(0)
    image, kind = open_header(stream, max_pixels)
    with quiet_pillow:
        try:
            if kind == "JPEG":
                return _decode_jpeg(image, stream, wanted)
            if kind == "PNG":
                image.verify()  # checksums and the end mark, which load() does not check
                stream.seek(0)
                image = _PILLOW_READERS[kind](stream)
            image.load()
            _check_depth(image)
            pixels = rgb_pixels(image, white_level=_white_level(image))
            if image.mode.startswith("I;16") and _white_is_zero(image):
                pixels = 255 - pixels  # Pillow inverts only up to 8 bits
            pixels = upright(pixels, orientation(image))
            return pixels, pixels.shape[:2]
        except (UnreadableError, RetinaFaceError):
            raise
        except MemoryError as error:
            width, height = image.size
            raise UnreadableError(
                f"there is not enough memory for its {width} x {height} pixels"
            ) from error
        except Exception as error:  # Pillow raises a dozen kinds
            raise UnreadableError(_explain(error, kind)) from error


def check_size(width: int, height: int, max_pixels: int) -> None:
    """UnreadableError unless the image has pixels, and no more than max_pixels."""
    if width < 1 or height < 1:
        raise UnreadableError(f"it is {width} x {height} pixels, so it is empty")
    if width * height > max_pixels:
        raise UnreadableError(
            f"its {width} x {height} pixels are more than the limit of {max_pixels:,}; make it "
            f"smaller, or give it as load_image(..., max_pixels={width * height:_})"
        )


def rgb_pixels(image: Image.Image, white_level: int | None = None) -> np.ndarray:
    """Any loaded Pillow image as RGB uint8 [H, W, 3], not rotated.

    Transparent images are laid on white, as a viewer shows them (what lies under a transparent
    pixel is arbitrary). 16 bit values keep their high byte. Colour profiles are not applied.

    Args:
        image: loaded.
        white_level: value of white in a 16 bit grey image; None for 65535.

    Raises:
        UnreadableError: pixels that have no fixed black and white (32 bit, floating point).
    """
    mode = image.mode
    if mode in ("F", "I"):
        kind = "floating-point" if mode == "F" else "32 bit integer"
        raise UnreadableError(
            f"it holds {kind} pixels, whose black and white are not known; scale them to 0..255 "
            "and save it with 8 bits"
        )
    if mode.startswith("I;16"):
        grey = np.asarray(image)
        if white_level is not None:
            grey = np.minimum(grey, white_level).astype(np.uint32) * 255 // white_level
        else:
            grey = grey >> 8
        return grey_to_rgb(grey.astype(np.uint8))
    if mode in ("La", "PA"):
        image = image.convert("LA" if mode == "La" else "RGBA")
    if image.mode in ("RGBA", "LA", "RGBa") or _has_colour_key(image):
        image = image.convert("RGBA")
        if image.getextrema()[3][0] < 255:
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def grey_to_rgb(grey: np.ndarray) -> np.ndarray:
    """uint8 [H, W] -> [H, W, 3], the value in each channel."""
    return cv2.cvtColor(np.ascontiguousarray(grey), cv2.COLOR_GRAY2RGB)


def orientation(image: Image.Image) -> int:
    """EXIF orientation 1..8 (1 where there is none, or an unreadable one)."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # a damaged EXIF block must not cost the image
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def upright_size(image: Image.Image) -> tuple[int, int]:
    """(height, width) of a Pillow image as it is to be seen."""
    return image.size if orientation(image) >= 5 else image.size[::-1]


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undoes an EXIF orientation (Exif 2.3, tag 274): pixels [H, W, 3] as they are to be seen."""
    if orientation == 1:
        return pixels
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


class _QuietPillow:
    """Silences the warnings of Pillow's modules while any thread is inside.

    Python's list of warning filters belongs to the whole process, so only the first thread to
    enter changes it and the last to leave restores it.
    """

    def __init__(self):
        self._saved: warnings.catch_warnings | None = None
        self._begin()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        """No thread is inside; in a forked process only the forking one lives on."""
        if self._saved is not None:
            self._saved.__exit__()
        self._lock, self._inside, self._saved = threading.Lock(), 0, None

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
            self._inside += 1

    def __exit__(self, *exc_info) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._saved.__exit__(*exc_info)
                self._saved = None


quiet_pillow = _QuietPillow()


def _decode_jpeg(
    image: Image.Image, stream: BytesIO, wanted: WantedSize | None
) -> tuple[np.ndarray, tuple[int, int]]:
    """See `decode`; the header was read."""
    # The stream stands in the compressed data, where an end mark cannot occur by chance. Without one
    # the file is cut off; decoders fill the rest with grey.
    if stream.getvalue().rfind(_JPEG_END, stream.tell()) < 0:
        raise UnreadableError(_TRUNCATED)
    turn, size = orientation(image), upright_size(image)
    factor = 1
    if wanted is not None:
        least = min(side // part for side, part in zip(size, wanted(*size)))
        factor = next(factor for factor in (8, 4, 2, 1) if factor <= max(1, least))
    pixels = _decode_by_opencv(image, stream, factor) if image.mode in ("L", "RGB") else None
    if pixels is None:
        image.draft(None, (image.width // factor, image.height // factor))
        image.load()
        pixels = rgb_pixels(image)
    return upright(pixels, turn), size


def _decode_by_opencv(image: Image.Image, stream: BytesIO, factor: int) -> np.ndarray | None:
    """A grey or three-channel JPEG as stored; None where Pillow has to decide."""
    data = np.frombuffer(stream.getbuffer(), np.uint8)
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION | _REDUCED[factor]
    try:
        pixels = cv2.imdecode(data, flags)
    except cv2.error:
        return None
    if pixels is None or pixels.shape[:2] != (
        -(-image.height // factor),
        -(-image.width // factor),
    ):
        return None
    return pixels


def _check_depth(image: Image.Image) -> None:
    """Refuses TIFF pixels that Pillow decodes wrongly without a word."""
    if image.format != "TIFF":
        return
    if 2 in image.tag_v2.get(TiffImagePlugin.SAMPLEFORMAT, ()):
        raise UnreadableError("its pixels are signed numbers; save it with unsigned 8 or 16 bits")
    planes = image.tag_v2.get(TiffImagePlugin.PLANAR_CONFIGURATION, 1)
    if planes == 2 and max(image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (1,))) > 8:
        raise UnreadableError(
            "it is a 16 bit TIFF with its colours in separate planes; save it with interleaved "
            "colours or 8 bits"
        )


def _white_level(image: Image.Image) -> int | None:
    """4095 for 12 bit TIFF, which Pillow hands over unscaled in 16 bits."""
    if image.format == "TIFF":
        bits = image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (16,))[0]
        return (1 << bits) - 1 if 8 < bits < 16 else None
    return None


def _white_is_zero(image: Image.Image) -> bool:
    return (
        image.format == "TIFF" and image.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
    )


def _has_colour_key(image: Image.Image) -> bool:
    """Whether a palette entry or one colour stands for transparent."""
    key = image.info.get("transparency")
    if key is None or image.mode not in ("1", "L", "P", "RGB"):
        return False
    # The key of a 16 bit RGB image cannot be found among pixels already reduced to 8 bits.
    return not (isinstance(key, tuple) and max(key) > 255)


def _explain(error: Exception, kind: str) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return "it has more pixels than can be decoded; make it smaller"
    said = str(error).lower()
    if "truncated" in said or "end of file" in said or isinstance(error, EOFError):
        return _TRUNCATED
    return f"it is damaged or a rare kind of {kind}; save it again as PNG or JPEG"
