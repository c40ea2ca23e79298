"""Images written to files, whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

import numpy as np

from retinaface_tf.errors import RetinaFaceError


def _open_for_writing(path: Path) -> TextIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("w", encoding="utf-8")
    except OSError as error:
        raise RetinaFaceError(f"Cannot write {path}: {error.strerror}.") from error


def save_image(path: Path, image: np.ndarray) -> None:
    """Writes uint8 RGB [H, W, 3] under a temporary name, then renames; the suffix is the format."""
    from PIL import Image

    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        image_format = Image.registered_extensions().get(path.suffix.lower(), "PNG")
        Image.fromarray(image).save(temporary, image_format, quality=92)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RetinaFaceError(f"Cannot write {path}: {error.strerror or error}.") from error
