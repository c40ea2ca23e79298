"""Images of any size made ready for the network: scaled, then padded to one of few shapes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retinaface_tf.config import Size, check_size
from retinaface_tf.errors import ConfigError, ImageError
from retinaface_tf.images.decode import WantedSize
from retinaface_tf.images.read import ImageSource, describe_source, read_shrunk

# Longest side searched when nothing is said: a phone's 4000-pixel photo is halved, a screen's is
# left alone.
DEFAULT_MAX_SIDE = 2048
# Where closer looks may follow it is at least this share of the photo's longest side: shrunk further, crowds
# are no candidates. Closer looks go as far again, so that they end at the photo's own pixels.
LEAST_SHARE = 1 / 4
# A short edge alone leaves the long side free up to this multiple of it, so that a panorama does
# not become gigantic.
MAX_ASPECT = 3
# Largest image given to the network, in pixels; the MobileNet takes about 90 bytes for each.
MAX_NETWORK_PIXELS = 40_000_000


class Prepared(NamedTuple):
    """An image, or a part of it, as the network sees it, and the way back.

    Attributes:
        pixels: uint8 RGB [h, w, 3], scaled, not yet padded.
        scale: (x, y) factors from original to scaled pixels.
        original_size: (height, width) of the image as read.
        origin: (x, y) of the part's upper left corner in original pixels.
        photo: uint8 RGB [H, W, 3], what `pixels` were made of, kept for closer looks; None for none.
        hints: float [N, 4] boxes in original pixels where faces are expected, such as those of the frame
            before.
    """

    pixels: NDArray[np.uint8]
    scale: tuple[float, float]
    original_size: tuple[int, int]
    origin: tuple[float, float] = (0.0, 0.0)
    photo: NDArray[np.uint8] | None = None
    hints: NDArray[np.float32] = np.zeros((0, 4), np.float32)

    @property
    def nbytes(self) -> int:
        """The bytes of its larger image."""
        return max(self.pixels.nbytes, 0 if self.photo is None else self.photo.nbytes)


def parse_size(text: str | None) -> Size:
    """The command line's `--size`: a short edge in pixels, SHORTxLONGEST, "original" or "default".

    Raises:
        ConfigError: it is none of these, or the short edge is above the longest side.
    """
    if text in (None, "default"):
        return None
    if text == "original":
        return "original"
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(p.isdigit() and int(p) > 0 for p in parts):
        raise ConfigError(
            f"Size {text!r} is not understood: give a short edge such as 480, a short edge and a "
            "longest side (SHORTxLONGEST) such as 1600x2150, or 'original'."
        )
    short, longest = int(parts[0]), int(parts[-1])
    size = short if len(parts) == 1 else (short, longest)
    check_size(size, f"Size {text}")
    return size


def parse_width_height(text: str) -> tuple[int, int]:
    """The command line's WIDTHxHEIGHT in pixels, as (height, width).

    Raises:
        ConfigError: it is not two positive numbers with an x between.
    """
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise ConfigError(f"Size {text!r} is not understood: give WIDTHxHEIGHT such as 640x480.")
    return int(parts[1]), int(parts[0])


def target_size(height: int, width: int, size: Size = None) -> tuple[int, int]:
    """Height and width at which an image is searched, its shape kept.

    Args:
        height, width: of the image in pixels.
        size: None keeps the image up to a longest side of 2048 and shrinks larger ones;
            "original" never scales; a number scales the short edge to it (long side at most three
            times that); a pair (short, longest) scales the short edge to the first unless the
            long side would pass the second.

    Returns:
        (height, width) in pixels, each at least 1.

    Raises:
        ConfigError: `size` is none of these, see `config.check_size`.
        ImageError: the result has more than `MAX_NETWORK_PIXELS`.
    """
    short, long = min(height, width), max(height, width)
    if size is None:
        scale = min(1.0, DEFAULT_MAX_SIDE / long)
    elif size == "original":
        scale = 1.0
    else:
        check_size(size)
        edges = size if isinstance(size, tuple | list) else (size, MAX_ASPECT * size)
        scale = min(edges[0] / short, edges[1] / long)
    result = max(1, round(height * scale)), max(1, round(width * scale))
    if result[0] * result[1] > MAX_NETWORK_PIXELS:
        raise ImageError(
            f"An image of {result[1]}x{result[0]} pixels is too large to search at once "
            f"(limit {MAX_NETWORK_PIXELS / 1e6:.0f} million): give a smaller size, such as 1600."
        )
    return result


def read_and_prepare(
    source: ImageSource,
    size: Size = None,
    fixed_shape: tuple[int, int] | None = None,
    closer: int = 0,
) -> Prepared | ImageError:
    """An image read at the size searched, see `prepare`; or what is wrong with it.

    Where `closer` is not 0 the photo is kept too, so many times as large, as far as it has the pixels; and
    the default size is at least `LEAST_SHARE` of the photo's.
    """

    def chosen(height: int, width: int) -> tuple[int, int]:
        least = round(LEAST_SHARE * max(height, width))
        larger = closer and size is None and least > DEFAULT_MAX_SIDE
        return network_size(height, width, (least, least) if larger else size, fixed_shape)

    searched = naming(source, chosen)

    def wanted(height: int, width: int) -> tuple[int, int]:
        rows, columns = searched(height, width)
        return min(height, max(1, closer) * rows), min(width, max(1, closer) * columns)

    try:
        pixels, original = read_shrunk(source, wanted)
        prepared = _scaled(pixels, searched(*original), original)
        return prepared._replace(photo=pixels) if closer else prepared
    except ImageError as error:
        return error


def naming(source: ImageSource, target: WantedSize) -> WantedSize:
    """The same function of height and width, but that its `ImageError` names the image."""

    def wanted(height: int, width: int) -> tuple[int, int]:
        try:
            return target(height, width)
        except ImageError as error:
            reason = f"{str(error)[0].lower()}{str(error)[1:]}"
            raise ImageError(f"Cannot search {describe_source(source)}: {reason}") from None

    return wanted


def prepare(
    image: np.ndarray, size: Size = None, fixed_shape: tuple[int, int] | None = None
) -> Prepared:
    """Scales an image (uint8 RGB [H, W, 3]) to `network_size`, averaging where it shrinks."""
    height, width = image.shape[:2]
    return _scaled(image, network_size(height, width, size, fixed_shape), (height, width))


def network_size(
    height: int, width: int, size: Size = None, fixed_shape: tuple[int, int] | None = None
) -> tuple[int, int]:
    """`target_size`, within `fixed_shape`: (height, width) of a network that takes no other.

    What is larger is shrunk to fit into it.
    """
    height, width = target_size(height, width, size)
    if fixed_shape is None:
        return height, width
    scale = min(1.0, fixed_shape[0] / height, fixed_shape[1] / width)
    return (
        min(fixed_shape[0], max(1, round(height * scale))),
        min(fixed_shape[1], max(1, round(width * scale))),
    )


def _scaled(pixels: np.ndarray, target: tuple[int, int], original: tuple[int, int]) -> Prepared:
    """Pixels of an image of the size `original`, perhaps shrunk already, at the size `target`."""
    scale = (target[1] / original[1], target[0] / original[0])
    return Prepared(resized(pixels, *target), scale, original)


def resized(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 [H, W, 3] at another size, averaged by area where it shrinks, as the exported graph does."""
    if pixels.shape[:2] == (height, width):
        return pixels
    import cv2

    shrinks = height * width < pixels.shape[0] * pixels.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=method), np.uint8)


def bucket_side(side: int, stride: int = 32) -> int:
    """The padded length of a side: the next multiple of a step that grows with the side.

    Steps are a multiple of `stride` and at most an eighth of the side (from 8 strides on), so a
    thousand different sizes fall into a few dozen shapes for about 4 % more pixels a side.
    """
    step = stride
    while side >= 16 * step:
        step *= 2
    return -(-side // step) * step


def bucket_shape(height: int, width: int, stride: int = 32) -> tuple[int, int]:
    """`bucket_side` of both sides."""
    return bucket_side(height, stride), bucket_side(width, stride)


def stack_padded(
    images: list[np.ndarray], shape: tuple[int, int], fill: tuple[float, float, float]
) -> np.ndarray:
    """Images of one bucket in one array: each in the upper left, the rest the mean pixel.

    Args:
        images: uint8 RGB [h, w, 3], none larger than `shape`.
        shape: (height, width).
        fill: RGB of the padding; the network's mean pixel is zero to it, like its own padding.

    Returns:
        uint8 [B, height, width, 3].
    """
    batch = np.empty((len(images), *shape, 3), np.uint8)
    color = np.rint(fill).astype(np.uint8)
    for slot, image in zip(batch, images):
        height, width = image.shape[:2]
        slot[:height, :width] = image
        slot[height:] = color
        slot[:height, width:] = color
    return batch
