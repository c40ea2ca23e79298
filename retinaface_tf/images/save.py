"""Images written to files, whole or not at all, with a mark that tells our own outputs from photos."""

from __future__ import annotations

import hashlib
import os
import re
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from retinaface_tf.errors import RetinaFaceError
from retinaface_tf.images.decode import HEIC_SUFFIXES
from retinaface_tf.util.files import is_file, write_whole

_MARK = "retinaface-tf output "
_PATTERN = re.compile(_MARK.encode() + rb"([0-9a-f]{16})")
# Marks stand near a file's beginning or at its end.
_REACH = 4096


def mark_of(source: str | os.PathLike[str]) -> str:
    """What outputs made of a source carry: the same for each run over the same file."""
    digest = hashlib.sha256(os.fsencode(os.path.realpath(source))).hexdigest()
    return f"{_MARK}{digest[:16]}"


def mark_in(path: str | os.PathLike[str]) -> str | None:
    """The mark of a file that this package wrote; None for any other file."""
    if not is_file(path):  # opening a pipe would wait for its other end
        return None
    try:
        with Path(path).open("rb") as file:
            found = _PATTERN.search(file.read(_REACH))
            if found is None:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _REACH))
                found = _PATTERN.search(file.read(_REACH))
    except (OSError, ValueError):
        return None
    return None if found is None else found[0].decode()


def drawing_name(name: Path) -> Path:
    """What the drawing of a photo is called: of a.heic, which Pillow does not write, a.heic.jpg."""
    return name.with_name(f"{name.name}.jpg") if name.suffix.lower() in HEIC_SUFFIXES else name


def save_image(
    path: Path, image: np.ndarray, *, mark: str | None = None, icc_profile: bytes | None = None
) -> None:
    """Writes uint8 RGB [H, W, 3]; the suffix is the format, PNG where it is none of Pillow's.

    Args:
        path: of the file.
        image: the pixels.
        mark: of `mark_of`, so that a later run knows the file for its own.
        icc_profile: the colour profile of the pixels; None for sRGB.

    Raises:
        RetinaFaceError: the file cannot be written, or the format takes no image of this size.
    """
    from PIL import Image, PngImagePlugin

    kind = Image.registered_extensions().get(path.suffix.lower(), "PNG")
    options: dict[str, Any] = (
        {"quality": 92} if icc_profile is None else {"quality": 92, "icc_profile": icc_profile}
    )
    if mark and kind == "PNG":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_text("Software", mark)
    elif mark and kind in ("JPEG", "GIF"):
        options["comment"] = mark.encode()
    content = BytesIO()  # Pillow does not notice that a file on a full disk is cut
    try:
        Image.fromarray(image).save(content, kind, **options)
    except (OSError, ValueError, SyntaxError, OverflowError) as error:
        size = f"{image.shape[1]} x {image.shape[0]}"
        raise RetinaFaceError(f"Cannot write {path}: {kind} cannot hold {size} pixels.") from error
    if mark and kind not in ("PNG", "JPEG", "GIF"):
        content.write(end_mark(path, mark))
    write_whole(path, content.getbuffer(), error=RetinaFaceError)


def end_mark(path: Path, mark: str) -> bytes:
    """What stands behind a file's content, where readers of images and MP4 leave it alone.

    In MP4 and AVIF it is a box of the kind "free", in Matroska a "Void" element, which readers skip.
    """
    text = mark.encode()
    if path.suffix.lower() in (".mp4", ".mov", ".m4v", ".avif"):
        return (8 + len(text)).to_bytes(4, "big") + b"free" + text
    if path.suffix.lower() in (".mkv", ".webm"):
        return bytes([0xEC, 0x80 | len(text)]) + text
    return text


def encode_jpeg(pixels: np.ndarray, quality: int = 92) -> bytes:
    """uint8 RGB [H, W, 3] -> JPEG."""
    import cv2

    _, content = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return content.tobytes()
