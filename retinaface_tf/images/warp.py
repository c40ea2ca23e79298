"""Cutting a turned and scaled rectangle out of an image."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def warp(
    image: NDArray[np.uint8], matrix: NDArray[np.float64], size: tuple[int, int], fill: int = 0
) -> NDArray[np.uint8]:
    """The image as an affine matrix maps it, averaged where that shrinks it much.

    Args:
        image: uint8 RGB [H, W, 3].
        matrix: [2, 3] from the image's pixels to the result's, both counted as OpenCV does.
        size: (height, width) of the result.
        fill: 0..255, grey of what lies outside the image.

    Returns:
        uint8 RGB [height, width, 3].
    """
    height, width = size
    part, matrix = _within_reach(image, matrix, size)
    if not part.size:
        return np.full((height, width, 3), fill, np.uint8)
    # warpAffine looks at four pixels; with more under each of the result's it would make noise.
    factor = 2 * float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    if factor < 1:
        sides = [max(1, round(side * factor)) for side in part.shape[1::-1]]
        scale = np.array(sides) / part.shape[1::-1]
        part = cv2.resize(part, sides, interpolation=cv2.INTER_AREA)
        # Not moved by the quarter of the result's pixel by which middles of pixels shift: the first
        # would then lie outside.
        matrix = np.column_stack([matrix[:, :2] / scale, matrix[:, 2]])
    return cv2.warpAffine(
        part, matrix, (width, height), flags=cv2.INTER_LINEAR, borderValue=(fill,) * 3
    )


def _within_reach(
    image: NDArray[np.uint8], matrix: NDArray[np.float64], size: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The part of an image that the result shows, and its matrix from there.

    OpenCV 4 takes no image with a side above 32,766 pixels.
    """
    height, width = size
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]], float)
    corners = corners @ cv2.invertAffineTransform(matrix).T
    limit = image.shape[1::-1]
    low = np.clip(np.floor(corners.min(axis=0)) - 2, 0, limit).astype(int)
    high = np.clip(np.ceil(corners.max(axis=0)) + 3, 0, limit).astype(int)
    matrix = np.column_stack([matrix[:, :2], matrix[:, 2] + matrix[:, :2] @ low])
    return image[low[1] : high[1], low[0] : high[0]], matrix
