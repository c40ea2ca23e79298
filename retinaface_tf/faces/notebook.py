"""What a notebook shows of faces: their picture, small, with a line of text."""

from __future__ import annotations

import base64
import dataclasses
import html
import os
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from retinaface_tf.errors import ImageError
from retinaface_tf.faces.drawing import draw_faces
from retinaface_tf.images.read import describe_source, read_image
from retinaface_tf.images.remote import is_remote
from retinaface_tf.images.save import encode_jpeg

if TYPE_CHECKING:
    from retinaface_tf.faces.faces import Faces

_LONGEST_SIDE = 640
# More pixels take longer to read than one waits for a picture.
_MAX_PIXELS = 100_000_000


def origin_of(source: Any) -> str | weakref.ref[Any] | None:
    """What finds the image again without keeping it in memory: a file's name, or a weak reference.

    None for what can be read once, lies elsewhere, or has no references.
    """
    if isinstance(source, str | Path):
        return None if is_remote(os.fspath(source)) else os.path.abspath(source)  # noqa: PTH100
    if isinstance(source, os.PathLike) or hasattr(source, "read"):
        return None
    try:
        return weakref.ref(source)
    except TypeError:
        return None


def faces_as_html(faces: Faces) -> str:
    """See `Faces._repr_html_`."""
    text = html.escape(repr(faces))
    source = faces.origin() if isinstance(faces.origin, weakref.ref) else faces.origin
    if source is None:
        return f"<pre>{text}</pre>"
    try:
        image = read_image(source, max_pixels=_MAX_PIXELS)
    except ImageError:
        return f"<pre>{text}</pre>"
    if image.shape[:2] != tuple(faces.image_size):  # another file has its name now
        return f"<pre>{text}</pre>"
    picture = base64.b64encode(encode_jpeg(_drawn(image, faces), quality=80)).decode()
    if isinstance(source, str):
        text = f"{html.escape(Path(describe_source(source)).name)}: {text}"
    return (
        f'<figure style="margin:0"><img style="max-width:100%" alt="{text}" '
        f'src="data:image/jpeg;base64,{picture}"><figcaption>{text}</figcaption></figure>'
    )


def _drawn(image: np.ndarray, faces: Faces) -> np.ndarray:
    """The faces on their image, no side above 640 pixels."""
    import cv2

    factor = min(1.0, _LONGEST_SIDE / max(image.shape[:2]))
    sides = [max(1, round(side * factor)) for side in image.shape[1::-1]]
    small = cv2.resize(image, sides, interpolation=cv2.INTER_AREA)
    return draw_faces(
        small,
        dataclasses.replace(
            faces,
            boxes=faces.boxes * np.float32(factor),
            landmarks=faces.landmarks * np.float32(factor),
            vertices=None if faces.vertices is None else faces.vertices * np.float32(factor),
        ),
    )
