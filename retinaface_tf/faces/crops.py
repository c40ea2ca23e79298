"""Faces cut out of their image: aligned by their points, or by their box with a margin."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from retinaface_tf.errors import ConfigError
from retinaface_tf.geometry.similarity import estimate_similarity, square_around
from retinaface_tf.images.warp import warp

if TYPE_CHECKING:
    from retinaface_tf.faces.faces import Faces

# Where the five points sit in the 112x112 crop of the ArcFace family of embedders (insightface,
# `arcface_dst`); its middle part of 96x112 is SphereFace's.
_ARCFACE = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ]
)
# And in the 512x512 crop that networks trained on FFHQ take (facexlib, `face_template`).
_FFHQ = np.array(
    [
        [192.98138, 239.94708],
        [318.90277, 240.1936],
        [256.63416, 314.01935],
        [201.26117, 371.41043],
        [313.08905, 371.15118],
    ]
)
# Points and side of the square templates.
_TEMPLATES = {"aligned": (_ARCFACE, 112), "ffhq": (_FFHQ, 512)}
KINDS = (*_TEMPLATES, "square", "box")
_LARGEST = 8192


def check_crops(kind: str, size: int | tuple[int, int] | None, margin: float) -> None:
    """Refuses what `cut_faces` cannot do.

    Raises:
        ConfigError: the kind is unknown, or the size or margin out of range or not for this kind.
    """
    if kind not in KINDS:
        raise ConfigError(f"crop kind {kind!r} must be one of {', '.join(KINDS)}.")
    sides = size if isinstance(size, tuple) else (size,) * 2
    for side in () if size is None else sides:
        whole = isinstance(side, int | np.integer) and not isinstance(side, bool)
        if not whole or side is None or not 1 <= side <= _LARGEST:
            raise ConfigError(
                f"size={size!r} must be a whole number of pixels, at least 1 and at most {_LARGEST}."
            )
    if len(sides) != 2 or (isinstance(size, tuple) and kind not in _TEMPLATES):
        raise ConfigError(f"size={size!r}: crops of the kind {kind} have one number as their size.")
    if not math.isfinite(margin) or not 0 <= margin <= 10:
        raise ConfigError(f"margin={margin!r} must be within 0..10, in sides of the face.")


def cut_faces(
    pixels: NDArray[np.uint8],
    faces: Faces,
    kind: str,
    size: int | tuple[int, int] | None,
    margin: float,
) -> list[NDArray[np.uint8]]:
    """See `Faces.crops`; uint8 RGB pixels [H, W, 3] of the faces' image, options that were checked."""
    one = size[0] if isinstance(size, tuple) else size
    crops = []
    for box, points in zip(faces.boxes.astype(float), faces.landmarks):
        if kind == "box":
            crops.append(_cut_box(pixels, box, one, margin))
            continue
        if kind == "square":
            side = one or max(1, math.ceil((1 + 2 * margin) * float((box[2:] - box[:2]).max())))
            matrix = square_around(box, side, 1 + 2 * margin)
            crops.append(warp(pixels, matrix, (side, side)))
            continue
        template, side = _TEMPLATES[kind]
        height, width = size if isinstance(size, tuple) else (size or side,) * 2
        scale = height / side / (1 + 2 * margin)
        target = (template - side / 2) * scale + np.array([width, height]) / 2
        if not np.isfinite(points).all() or np.ptp(points, axis=0).max() < 1:
            # Points that fell together (a face of a pixel or two) have no direction: its box.
            points = box[[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2)
            corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * side / 2
            target = corners * scale + np.array([width, height]) / 2
        crops.append(warp(pixels, estimate_similarity(points, target), (height, width)))
    return crops


def _cut_box(
    pixels: NDArray[np.uint8], box: NDArray[np.float64], size: int | None, margin: float
) -> NDArray[np.uint8]:
    """The box with its margin, as far as the image has it."""
    import cv2

    around = margin * (box[2:] - box[:2])
    limit = np.array(pixels.shape[1::-1])
    low = np.clip(np.floor(box[:2] - around), 0, limit - 1).astype(int)
    high = np.clip(np.ceil(box[2:] + around), low + 1, limit).astype(int)
    part = pixels[low[1] : high[1], low[0] : high[0]]
    if size is None:
        return part.copy()
    scale = size / max(part.shape[:2])
    sides = [max(1, round(side * scale)) for side in part.shape[1::-1]]
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    resized: NDArray[np.uint8] = cv2.resize(part, sides, interpolation=method)  # type: ignore[assignment]
    return resized
