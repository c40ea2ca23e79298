"""Making faces unrecognisable: what is left of a face are a few numbers, so nobody can undo it."""

from __future__ import annotations

from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from retinaface_tf.errors import ConfigError

BlurMethod = Literal["gaussian", "pixelate", "solid"]
BlurShape = Literal["ellipse", "box"]
DEFAULT_MARGIN = 0.3
# A face keeps this many colours along its longer side: of 5 x 4 nobody is told from another.
_CELLS = 5


def check_blur(method: str, shape: str, margin: float) -> None:
    """Raises ConfigError unless `blur_boxes` knows the method and shape, and the margin is >= 0."""
    for name, value, known in (
        ("method", method, get_args(BlurMethod)),
        ("shape", shape, get_args(BlurShape)),
    ):
        if value not in known:
            raise ConfigError(f"{name}={value!r} must be one of {', '.join(known)}.")
    if not 0 <= margin <= 10:  # NaN too
        raise ConfigError(f"margin={margin} must be from 0 to 10 sides of the face.")


def blur_boxes(
    image: NDArray[np.uint8],
    boxes: NDArray[np.float32],
    method: BlurMethod = "gaussian",
    shape: BlurShape = "ellipse",
    margin: float = DEFAULT_MARGIN,
) -> NDArray[np.uint8]:
    """A copy of an image with its boxes blurred, see `Faces.blur`.

    Args:
        image: RGB uint8 [H, W, 3].
        boxes: [N, 4] x1, y1, x2, y2 in pixels; they may reach outside.
        method, shape, margin: as there.

    Raises:
        ConfigError: the method, shape or margin is none.
    """
    check_blur(method, shape, margin)
    canvas = np.array(image)
    for x1, y1, x2, y2 in np.asarray(boxes, float):
        sides = np.array([x2 - x1, y2 - y1])
        low = np.floor([x1, y1] - margin * sides).astype(int)
        high = np.ceil([x2, y2] + margin * sides).astype(int)
        (left, top), (right, bottom) = np.maximum(low, 0), np.minimum(high, canvas.shape[1::-1])
        part = canvas[top:bottom, left:right]
        if not part.size:
            continue
        blurred = _without_detail(part, max(2, round(sides.max() / _CELLS)), method)
        if shape == "box":
            part[:] = blurred
            continue
        # The ellipse in the box with its margin; from 0.21 on it holds the whole box of the face.
        center, radius = (low + high - 1) / 2 - (left, top), (high - low) / 2
        x, y = (((np.arange(n) - c) / r) ** 2 for n, c, r in zip(part.shape[1::-1], center, radius))
        np.copyto(part, blurred, where=(y[:, None] + x <= 1)[..., None])
    return canvas


def _without_detail(part: np.ndarray, cell: int, method: BlurMethod) -> np.ndarray:
    """The part with one colour for each cell of so many pixels, or for all."""
    if method == "solid":
        return np.zeros_like(part)
    height, width = part.shape[:2]
    few = (max(1, round(width / cell)), max(1, round(height / cell)))
    coarse = cv2.resize(part, few, interpolation=cv2.INTER_AREA)
    if method == "pixelate":
        return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)
    # A Gaussian filter of all pixels can be undone in part; one of the cells' means cannot.
    smooth = cv2.GaussianBlur(coarse, (0, 0), 0.7, borderType=cv2.BORDER_REPLICATE)
    return cv2.resize(smooth, (width, height), interpolation=cv2.INTER_CUBIC)
