"""Reading an image, whatever it is given as, into RGB pixels."""

from __future__ import annotations

import os
import stat
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from retinaface_tf.errors import ImageError
from retinaface_tf.images import decode as decoding
from retinaface_tf.images.decode import UnreadableError

MAX_PIXELS = 100_000_000


class NamedBytes(bytes):
    """An encoded image that messages call by a name.

    Args:
        content: of the file.
        name: where it comes from.
    """

    name: str

    def __new__(cls, content: bytes, name: str):
        named = super().__new__(cls, content)
        named.name = name
        return named


class CachedImage(os.PathLike):
    """An image file that is decoded once: `read_image` keeps its pixels here.

    Args:
        path: of the file.

    Attributes:
        pixels: uint8 RGB [H, W, 3]; None before it was read.
    """

    def __init__(self, path: str | os.PathLike):
        self._path = path
        self.pixels: np.ndarray | None = None

    def __fspath__(self) -> str:
        return os.fspath(self._path)


ImageSource = str | os.PathLike | bytes | bytearray | memoryview | np.ndarray | Image.Image


def read_image(source: ImageSource, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The pixels of an image, upright.

    Files may be JPEG, PNG, WebP, BMP, TIFF or GIF (the first frame or page of several), with 8 or
    16 bits (the high byte is kept), grey, RGB, palette, CMYK or YCCK (without colour management).
    Transparency is laid on white. EXIF orientation is applied, for Pillow images that still carry
    it too, so that `Image.open(path)` and `path` give the same.

    Args:
        source: path, encoded bytes, a uint8 array or a Pillow image. Arrays are RGB [H, W, 3]
            (returned as they are, not copied), RGBA [H, W, 4] or grey [H, W] or [H, W, 1].
        max_pixels: larger images are refused; files by their header, before decoding.

    Returns:
        RGB uint8 [H, W, 3]. May be read-only; do not write into it.

    Raises:
        ImageError: one sentence naming the source and what is wrong with it.
    """
    try:
        return _read(source, max_pixels)
    except UnreadableError as problem:
        name = describe_source(source)
        raise ImageError(f"Cannot read {name}: {problem}.") from problem.__cause__


def _read(source: ImageSource, max_pixels: int) -> np.ndarray:
    if isinstance(source, np.ndarray):
        return _from_array(source, max_pixels)
    if isinstance(source, Image.Image):
        return _from_pillow(source, max_pixels)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return decoding.decode(BytesIO(source), max_pixels)
    if isinstance(source, CachedImage):
        if source.pixels is None:
            source.pixels = _from_path(source, max_pixels)
        return source.pixels
    if isinstance(source, (str, os.PathLike)):
        return _from_path(source, max_pixels)
    raise UnreadableError(
        "an image is a path, bytes, a numpy array (np.asarray(...)) or a Pillow image"
    )


def describe_source(source: object) -> str:
    """What messages call an image: its path, or "the array given" and the like."""
    if isinstance(source, (str, os.PathLike)):
        # A name that is not UTF-8, or holds a zero byte, must not break the printing of its message.
        name = os.fsencode(source).decode(errors="replace")
        return name if name and "\0" not in name else ascii(name)
    if isinstance(source, NamedBytes):
        return source.name
    if isinstance(source, (bytes, bytearray, memoryview)):
        return "the bytes given"
    if isinstance(source, np.ndarray):
        return "the array given"
    if isinstance(source, Image.Image):
        return getattr(source, "filename", "") or "the Pillow image given"
    return f"the {type(source).__name__} given"


def colour_profile(source: ImageSource) -> bytes | None:
    """The ICC profile of an RGB image file or its bytes; None where there is none."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        source = BytesIO(source)
    elif not isinstance(source, (str, os.PathLike)):
        return None
    with decoding.quiet_pillow:
        try:
            with Image.open(source) as image:
                return image.info.get("icc_profile") if image.mode.startswith("RGB") else None
        except Exception:  # Pillow raises a dozen kinds; the pixels were read without it
            return None


def _from_path(path: str | os.PathLike, max_pixels: int) -> np.ndarray:
    try:
        mode = Path(path).stat().st_mode
        if stat.S_ISDIR(mode):
            raise UnreadableError("it is a folder, not an image")
        if not stat.S_ISREG(mode) and not stat.S_ISFIFO(mode):
            raise UnreadableError("it is a device, not an image")
        with Path(path).open("rb") as file:
            stream = file if stat.S_ISREG(mode) else BytesIO(file.read())
            return decoding.decode(stream, max_pixels)
    except FileNotFoundError as error:
        hint = "; download it first" if "://" in describe_source(path) else ""
        raise UnreadableError(f"there is no such file{hint}") from error
    except PermissionError as error:
        raise UnreadableError("you may not read it (permission denied)") from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = getattr(error, "strerror", None) or "this is not a file name"
        raise UnreadableError(f"{reason[0].lower()}{reason[1:]}") from error


def _from_pillow(image: Image.Image, max_pixels: int) -> np.ndarray:
    decoding.check_size(*image.size, max_pixels)
    with decoding.quiet_pillow:
        try:
            image.load()
            return decoding.upright(decoding.rgb_pixels(image), decoding.orientation(image))
        except UnreadableError:
            raise
        except Exception as error:  # Pillow raises a dozen kinds
            raise UnreadableError("Pillow cannot decode it") from error


def _from_array(array: np.ndarray, max_pixels: int) -> np.ndarray:
    shape = f"its shape is {array.shape}"
    if array.size == 0:
        raise UnreadableError(f"{shape}, so it holds no pixels")
    if array.ndim == 4:
        raise UnreadableError(f"{shape}, a batch; give a list of images instead")
    channels = array.shape[2] if array.ndim == 3 else int(array.ndim == 2)
    if channels not in (1, 3, 4):
        remedy = "an image is uint8 [H, W, 3] RGB"
        if array.ndim == 3 and array.shape[0] in (1, 3, 4):
            remedy = "move the channels last with array.transpose(1, 2, 0)"
        raise UnreadableError(f"{shape}; {remedy}")
    if array.dtype != np.uint8:
        raise UnreadableError(_dtype_remedy(array))
    decoding.check_size(array.shape[1], array.shape[0], max_pixels)
    if channels == 3:
        return array
    if channels == 1:
        return decoding.grey_to_rgb(array.reshape(array.shape[:2]))
    return decoding.rgb_pixels(Image.fromarray(np.ascontiguousarray(array), "RGBA"))


def _dtype_remedy(array: np.ndarray) -> str:
    """What is wrong with a dtype other than uint8, and the user's remedy; nothing is guessed."""
    kind, remedy = f"its type is {array.dtype}, not uint8", "bring it to 0..255 and cast to uint8"
    if array.dtype == np.uint16:
        remedy = "scale it to 0..255 (divide full 16 bit values by 257) and cast to uint8"
    elif array.dtype.kind == "f" and np.isnan(array).any():
        kind += ", and it holds NaN"
        remedy = "replace them, scale to 0..255 and cast to uint8"
    elif array.dtype.kind == "b" or (array.dtype.kind == "f" and np.abs(array).max() <= 1):
        remedy = "multiply by 255 and cast to uint8"
    elif array.dtype.kind not in "iuf":
        remedy = "give numbers from 0 to 255 as uint8"
    return f"{kind}; {remedy}"
