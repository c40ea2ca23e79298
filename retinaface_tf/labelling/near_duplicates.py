"""Which photos are the same image, scaled, stretched, mirrored or saved again.

A photo's hash is the difference hash: of the grey image reduced to 17x16 and 16x17 pixels, whether
each pixel is brighter than its neighbour to the right, and below. What is compared is the number of
bits that differ, out of 512; unrelated photos differ in about half of them.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from retinaface_tf.errors import ImageError

_SIDE = 16
BITS = 2 * _SIDE * _SIDE
# Fewer bits apart than this are one photo; see docs/own-weights.md for what was measured.
SAME_PHOTO = 80


class Duplicate(NamedTuple):
    """A photo that another set holds too.

    Attributes:
        index: of the photo in the first set.
        other: of its nearest in the second.
        distance: bits that differ.
    """

    index: int
    other: int
    distance: int


def photo_hash(image: np.ndarray) -> np.ndarray:
    """bool [512] of an RGB uint8 image [H, W, 3]."""
    import cv2

    grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    wide = cv2.resize(grey, (_SIDE + 1, _SIDE), interpolation=cv2.INTER_AREA).astype(int)
    tall = cv2.resize(grey, (_SIDE, _SIDE + 1), interpolation=cv2.INTER_AREA).astype(int)
    bits = [wide[:, :-1] > wide[:, 1:], tall[:-1] > tall[1:]]
    return np.concatenate([b.ravel() for b in bits])


def hash_photos(
    paths: Iterable[Path], advance: Callable[[int], object] = lambda done: None
) -> np.ndarray:
    """bool [N, 2, 512]: the hashes of photos and of their mirror images; unreadable ones are zeros."""
    from retinaface_tf.images.read import read_image

    rows = []
    for path in paths:
        try:
            image = read_image(path)
            rows.append([photo_hash(image), photo_hash(image[:, ::-1])])
        except ImageError:
            rows.append(np.zeros((2, BITS), bool))
        advance(1)
    return np.array(rows, bool).reshape(-1, 2, BITS)


def nearest(hashes: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each photo the nearest of another set.

    Args:
        hashes, others: bool [N, 2, 512] and [M, 2, 512] of `hash_photos`, M at least 1.

    Returns:
        int [N] which one, int [N] bits that differ; BITS for unreadable photos.
    """
    distance = _distances(hashes, others)
    best = distance.argmin(axis=1)
    return best, distance[np.arange(len(best)), best].astype(int)


def group_duplicates(hashes: np.ndarray, limit: int = SAME_PHOTO) -> np.ndarray:
    """int [N]: photos of one set with the same number are one photo, or nearly, in a chain of such."""
    groups = np.arange(len(hashes))
    for start in range(0, len(hashes), 64):
        near = _distances(hashes[start : start + 64], hashes) <= limit
        for i, row in enumerate(near, start):
            row[i] = True
            same = np.isin(groups, groups[row])
            groups[same] = groups[same].min()
    return groups


def _distances(hashes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """[N, M] bits that differ, as in `nearest`."""
    known = others[:, 0].any(axis=1)
    theirs = 2.0 * others[:, 0].astype(np.float32) - 1
    distances = []
    for view in (0, 1):  # as it is, and mirrored
        ours = 2.0 * hashes[:, view].astype(np.float32) - 1
        distances.append((BITS - ours @ theirs.T) / 2)
    distance = np.minimum(*distances)
    distance[:, ~known] = BITS
    distance[~hashes[:, 0].any(axis=1)] = BITS
    return distance


def find_duplicates(
    photos: Sequence[Path],
    others: Sequence[Path],
    *,
    limit: int = SAME_PHOTO,
    advance: Callable[[int], object] = lambda done: None,
) -> list[Duplicate]:
    """Photos that are also in another set, such as one kept for evaluation.

    Args:
        limit: at most this many bits differ.
    """
    if not len(photos) or not len(others):
        return []
    best, distance = nearest(hash_photos(photos, advance), hash_photos(others, advance))
    return [
        Duplicate(i, int(best[i]), int(distance[i]))
        for i in np.flatnonzero(distance <= limit).tolist()
    ]
