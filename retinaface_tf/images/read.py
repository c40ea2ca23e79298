"""Reading an image, whatever it is given as (path, bytes, stream, array), into upright RGB pixels."""

from __future__ import annotations

import os
import stat
import threading
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retinaface_tf.errors import ImageError, first_line
from retinaface_tf.images import decode as decoding
from retinaface_tf.images.decode import UnreadableError, WantedSize
from retinaface_tf.images.remote import RemoteImage, is_remote

# More bytes than any image file that is decoded here has: a bound for streams without an end.
MAX_BYTES = 1 << 30
_TOO_LARGE = f"it has more than {MAX_BYTES >> 30} GiB"
# A `CachedImage` with more pixels is decoded each time: several of them are held at once.
_MAX_KEPT_PIXELS = 32_000_000


class NamedBytes(bytes):
    """An encoded image that messages call by a name.

    Args:
        content: of the file.
        name: where it comes from.
    """

    name: str

    def __new__(cls, content: bytes, name: str) -> Self:
        named = super().__new__(cls, content)
        named.name = name
        return named

    def __getnewargs__(self) -> tuple[bytes, str]:  # type: ignore[override]
        return bytes(self), self.name


class CachedImage(os.PathLike[str]):
    """An image file that is decoded once, if it is not huge: `read_image` keeps its pixels here.

    Args:
        path: of the file.

    Attributes:
        pixels: uint8 RGB [H, W, 3]; None before it was read.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self._path = path
        self.pixels: NDArray[np.uint8] | None = None

    def __fspath__(self) -> str:
        return os.fspath(self._path)


class BinaryStream(Protocol):
    """Gives bytes, as files opened in binary mode, members of archives and connections do."""

    def read(self, size: int, /) -> bytes: ...


# Arrays of every type are taken, and those that are not uint8 refused with the remedy.
ImageSource = (
    str
    | os.PathLike[str]
    | bytes
    | bytearray
    | memoryview
    | BinaryStream
    | NDArray[Any]
    | Image.Image
)


def read_image(source: ImageSource, *, max_pixels: int | None = None) -> NDArray[np.uint8]:
    """The pixels of an image, upright. Users have it as `retinaface_tf.load_image`.

    Files may be JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF or, with the extra `heif`, HEIC (the first
    frame or page of several), with 8 or more bits (the high byte is kept), grey, RGB, palette, CMYK
    or YCCK (without colour management). Transparency is laid on white. EXIF orientation is applied,
    for Pillow images that still carry it too, so that `Image.open(path)` and `path` give the same.

    Args:
        source: path, encoded bytes, a binary file or stream (read from its beginning where it can
            be rewound), a uint8 array or a Pillow image; an http or https address (at most 100 MiB,
            within a minute, not in the own network: see `RemoteImage`) or a data URI. Arrays are RGB [H, W, 3] (returned as they
            are, not copied), RGBA [H, W, 4] or grey [H, W] or [H, W, 1].
        max_pixels: larger images are refused; files by their header, before decoding. None refuses
            JPEG files above 256 million pixels, other files above 128 million, and no array.

    Returns:
        RGB uint8 [H, W, 3]. May be read-only; do not write into it.

    Raises:
        ImageError: one sentence naming the source and what is wrong with it.
    """
    return _named(source, max_pixels, None)[0]


def read_shrunk(
    source: ImageSource, wanted: WantedSize
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """As `read_image`, but a JPEG is shrunk by 2, 4 or 8 while it is decoded, where that suffices.

    Args:
        source: as there.
        wanted: gives the least size that is needed; the pixels have at least that, up to rounding.

    Returns:
        RGB uint8 [H, W, 3], and the (height, width) of the image as it is.

    Raises:
        ImageError: as there; and what `wanted` raises.
    """
    return _named(source, None, wanted)


load_image = read_image


def _named(
    source: ImageSource, max_pixels: int | None, wanted: WantedSize | None
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    try:
        return _read(source, max_pixels, wanted)
    except UnreadableError as problem:
        name = describe_source(source)
        raise ImageError(f"Cannot read {name}: {problem}.") from problem.__cause__


def _read(
    source: ImageSource, max_pixels: int | None, wanted: WantedSize | None
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    if isinstance(source, np.ndarray):
        pixels = _from_array(source, max_pixels)
    elif isinstance(source, Image.Image):
        pixels = _from_pillow(source, max_pixels)
    elif isinstance(source, (bytes, bytearray, memoryview)):
        return decoding.decode(BytesIO(source), max_pixels, wanted)
    elif (remote := _remote(source)) is not None:
        return decoding.decode(BytesIO(remote.content()), max_pixels, wanted)
    elif isinstance(source, CachedImage):
        if source.pixels is None:
            whole = wanted and (lambda *size: size if _is_kept(size) else wanted(*size))
            pixels, size = _from_path(source, max_pixels, whole)
            if pixels.shape[:2] != size:
                return pixels, size
            if _is_kept(size):
                source.pixels = pixels
        else:
            pixels = source.pixels
    elif isinstance(source, (str, os.PathLike)):
        return _from_path(source, max_pixels, wanted)
    elif callable(getattr(source, "read", None)):
        return decoding.decode(BytesIO(_content(source)), max_pixels, wanted)
    else:
        raise UnreadableError(
            "an image is a path, bytes, a binary file, a numpy array (np.asarray(...)) or a Pillow "
            "image; several go in a list, or any other iterable of them into stream()"
        )
    return pixels, pixels.shape[:2]


def _remote(source: object) -> RemoteImage | None:
    if isinstance(source, str):
        return RemoteImage(source) if is_remote(source) else None
    return source if isinstance(source, RemoteImage) else None


def _is_kept(size: tuple[int, int]) -> bool:
    return size[0] * size[1] <= _MAX_KEPT_PIXELS


def file_content(source: ImageSource) -> bytes | None:
    """An image's file as it is, of a path, bytes or a stream; None for pixels, and for no file.

    Raises:
        ImageError: it cannot be read.
    """
    name = describe_source(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source)
    try:
        if (remote := _remote(source)) is not None:
            return remote.content()
        if isinstance(source, (str, os.PathLike)):
            path = Path(os.fsdecode(source))
            if not path.is_file():
                return None
            require_photo_size(path)
            return path.read_bytes()
        if callable(getattr(source, "read", None)):
            return _content(source)
    except OSError as error:
        raise ImageError(f"Cannot read {name}: {error.strerror}.") from error
    except UnreadableError as problem:
        raise ImageError(f"Cannot read {name}: {problem}.") from problem.__cause__
    return None


def describe_source(source: object) -> str:
    """What messages call an image: its path, or "the array given" and the like."""
    if isinstance(source, (str, os.PathLike)):
        return _printable(_remote(source) or source)
    if isinstance(source, NamedBytes):
        return source.name
    if isinstance(source, (bytes, bytearray, memoryview)):
        return "the bytes given"
    if isinstance(source, np.ndarray):
        return "the array given"
    what = "Pillow image" if isinstance(source, Image.Image) else type(source).__name__
    name = getattr(source, "filename", None) or getattr(source, "name", None)
    if isinstance(name, (str, bytes, os.PathLike)) and name:
        return _printable(name)
    return f"the {what} given"


def _printable(name: str | bytes | os.PathLike[str]) -> str:
    """A name that is not UTF-8, or holds a zero byte, must not break the printing of its message."""
    text = os.fsencode(name).decode(errors="replace")
    return text if text and "\0" not in text else ascii(text)


def colour_profile(source: ImageSource) -> bytes | None:
    """The ICC profile of an RGB image file or its bytes; None where there is none."""
    try:
        with _header_stream(source) as stream:
            image, _ = decoding.open_header(stream)
            return image.info.get("icc_profile") if image.mode.startswith("RGB") else None
    except (UnreadableError, OSError, ValueError, TypeError):  # the pixels were read without it
        return None


def read_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(height, width) of an image file as it is to be seen; only its header is read.

    Raises:
        ImageError: it cannot be read.
    """
    try:
        with _header_stream(path) as stream:
            return decoding.upright_size(decoding.open_header(stream)[0])
    except (UnreadableError, OSError, ValueError) as error:
        raise ImageError(f"Cannot read {_printable(path)}: {first_line(error)}.") from None


def _header_stream(source: Any) -> BinaryIO:
    if isinstance(source, (bytes, bytearray, memoryview)):
        return BytesIO(source)
    if (remote := _remote(source)) is not None:
        return BytesIO(remote.content())
    return Path(os.fsdecode(source)).open("rb")


def _content(stream: Any) -> bytes:
    """All bytes of a binary stream, from its beginning where it can be rewound."""
    try:
        if not (callable(getattr(stream, "seekable", None)) and stream.seekable()):
            return _rest(stream)
        with _rewinding:
            stream.seek(0)
            return _rest(stream)
    except UnreadableError:
        raise
    except Exception as error:  # whatever the stream is made of, a network connection say
        if getattr(stream, "closed", False) is True:
            raise UnreadableError("it is closed; open it again") from error
        raise UnreadableError(f"reading it failed, {first_line(error).rstrip('.')}") from error


def _rest(stream: Any) -> bytes:
    parts, left = [], MAX_BYTES + 1
    while left > 0 and (part := stream.read(left)):
        if not isinstance(part, (bytes, bytearray, memoryview)):
            remedy = f"its read() gives {type(part).__name__}, not bytes"
            if isinstance(part, str):
                remedy = "open it in binary mode, open(path, 'rb')"
            raise UnreadableError(f"it is not a binary file; {remedy}")
        parts.append(part)
        left -= len(part)
    if left <= 0:
        raise UnreadableError(_TOO_LARGE)
    return b"".join(parts)


def require_photo_size(path: Path) -> None:
    """Refuses a file of more bytes than any image has, unread: a sparse one takes no place on the disk.

    Raises:
        UnreadableError: it has.
        OSError: there is no such file.
    """
    if path.stat().st_size > MAX_BYTES:
        raise UnreadableError(_TOO_LARGE)


_rewinding: threading.Lock


def _make_lock() -> None:
    global _rewinding
    _rewinding = threading.Lock()


# Two readers of one file would take its position from each other. A forked process begins anew: a
# thread of its parent may hold the lock.
_make_lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_make_lock)


def _from_path(
    path: str | os.PathLike[str], max_pixels: int | None, wanted: WantedSize | None
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    try:
        file_path = Path(os.fsdecode(path))
        mode = file_path.stat().st_mode
        if stat.S_ISDIR(mode):
            allowed = os.access(file_path, os.R_OK | os.X_OK)
            denied = "you may not read this folder (permission denied)"
            raise UnreadableError("it is a folder, not an image" if allowed else denied)
        if not stat.S_ISREG(mode) and not stat.S_ISFIFO(mode):
            raise UnreadableError("it is a device, not an image")
        require_photo_size(file_path)
        with file_path.open("rb") as file:
            stream = file if stat.S_ISREG(mode) else BytesIO(_content(file))
            return decoding.decode(stream, max_pixels, wanted)
    except FileNotFoundError as error:
        hint = "; of addresses http and https are read" if "://" in describe_source(path) else ""
        raise UnreadableError(f"there is no such file{hint}") from error
    except PermissionError as error:
        raise UnreadableError("you may not read it (permission denied)") from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = getattr(error, "strerror", None) or "this is not a file name"
        raise UnreadableError(f"{reason[0].lower()}{reason[1:]}") from error


def _from_pillow(image: Image.Image, max_pixels: int | None) -> NDArray[np.uint8]:
    decoding.check_size(*image.size, decoding.MAX_PIXELS if max_pixels is None else max_pixels)
    with decoding.quiet_pillow:
        try:
            image.load()
            return decoding.upright(decoding.rgb_pixels(image), decoding.orientation(image))
        except UnreadableError:
            raise
        except Exception as error:  # Pillow raises a dozen kinds
            raise UnreadableError("Pillow cannot decode it") from error


def _from_array(array: np.ndarray, max_pixels: int | None) -> NDArray[np.uint8]:
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
    if max_pixels is not None:
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
