"""Closer looks where faces are small: tiles of the photo around what the look before was unsure of.

Searching a whole photo at twice the size takes four times the work, though few regions have small faces.
Tiles take only those, from the photo's own pixels where it has more than were searched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from retinaface_tf.config import DetectionSettings, Zoom
from retinaface_tf.faces.faces import Faces
from retinaface_tf.geometry.boxes import pairwise_iou
from retinaface_tf.geometry.tiles import cover, inner_edges, touches
from retinaface_tf.inference.postprocess import suppressed
from retinaface_tf.inference.preprocess import Prepared, resized

# Chosen on photos that no figure is reported of, see docs/speed.md.
# Side of a tile in pixels of the network's input; all have it, so an interpreter is made once.
TILE = 224
# Faces whose longer side is below this many pixels of the look before are looked at again,
SMALL = 20.0
# where their score says neither that they are none nor that they are one.
LEAST_SCORE, SURE = 0.2, 0.9
# A tile has so much of a face's sides around it. A face above this share of the tile is left to the look before.
_MARGIN, _LARGEST = 0.5, 0.5
# Each look is at most twice as close as the one before; one that gains less than this is left out.
_STEP, _LEAST_STEP = 2.0, 1.2
# "auto" goes as far as the photo has pixels, from twice, where it has no more, to this.
CLOSEST = 4
# Boxes in two looks, or two frames of a video, that overlap by this are of one face.
_SAME = 0.3
# A face that a closer look does not find again keeps this share of its score.
_UNCONFIRMED = 0.5
# So many unsure faces of an image, the best ones, say where the tiles are.
_MOST_REGIONS = 500


def magnifications(image: Prepared, zoom: Zoom) -> list[float]:
    """How many times closer than an image was searched the further looks are, rising."""
    if image.photo is None or zoom == "off":
        return []
    own = min(
        image.photo.shape[0] / image.pixels.shape[0], image.photo.shape[1] / image.pixels.shape[1]
    )
    limit = min(max(own, _STEP), CLOSEST) if zoom == "auto" else float(zoom)
    looks = [1.0]
    while limit / looks[-1] > _LEAST_STEP:
        looks.append(min(_STEP * looks[-1], limit))
    return looks[1:]


def look_closer(
    found: Sequence[Faces],
    images: Sequence[Prepared],
    search: Callable[[list[Prepared]], list[Faces]],
    tile: tuple[int, int],
    settings: DetectionSettings,
    limit: int,
) -> list[Faces]:
    """The faces of images after as many closer looks as the setting `zoom` and `limit` allow.

    Args:
        found: of the first look, down to `LEAST_SCORE`, in the original's pixels.
        images: as they were searched, each with its photo.
        search: finds the faces of tiles, many at once.
        tile: (height, width) of the network's input for tiles.
        settings: `zoom`, and the `iou` of the suppression.
        limit: most tiles of an image.
    """
    answers, left = list(found), [limit] * len(images)
    looks = [magnifications(image, settings.zoom) for image in images]
    for number in range(max(map(len, looks), default=0)):
        parts = {
            i: regions(
                answers[i],
                image,
                looks[i][number - 1] if number else 1.0,
                looks[i][number],
                tile,
                left[i],
            )
            for i, image in enumerate(images)
            if number < len(looks[i])
        }
        seen = iter(
            search([view(images[i], looks[i][number], part) for i in parts for part in parts[i]])
        )
        for i, chosen in parts.items():
            left[i] -= len(chosen)
            closer = [next(seen) for _ in chosen]
            answers[i] = join_tiles(
                answers[i], closer, chosen, images[i], looks[i][number], tile, settings.iou
            )
    return answers


def regions(
    faces: Faces, image: Prepared, before: float, closer: float, tile: tuple[int, int], limit: int
) -> NDArray[np.int64]:
    """Where an image is looked at again: corners [T, 4] of tiles in pixels of the closer look.

    Args:
        faces: of the look before.
        image: as it was searched.
        before, closer: how many times closer than that the look before was, and the next one is.
        tile, limit: as in `look_closer`.
    """
    boxes = faces.boxes[(faces.scores >= LEAST_SCORE) & (faces.scores < SURE)]
    if len(image.hints):
        seen = faces.boxes[faces.scores >= LEAST_SCORE]
        lost = pairwise_iou(image.hints, seen).max(axis=1, initial=0) < _SAME
        boxes = np.concatenate([image.hints[lost], boxes])
    scaled = boxes * _scale(image, closer)
    small = scaled[_longer_sides(scaled) * before / closer < SMALL]
    if not len(small):
        return np.zeros((0, 4), np.int64)
    return cover(small[:_MOST_REGIONS], _size(image, closer), tile, _MARGIN, limit)


def view(image: Prepared, closer: float, part: NDArray[np.int64]) -> Prepared:
    """A tile of an image (corners [4] in pixels of the closer look), cut out of its photo."""
    photo, size = image.photo, _size(image, closer)
    assert photo is not None
    rows, columns = photo.shape[:2]
    across = np.array([columns / size[1], rows / size[0]] * 2)
    x1, y1, x2, y2 = np.rint(part * across).astype(int).tolist()
    x2, y2 = max(x2, x1 + 1), max(y2, y1 + 1)
    width, height = (part[2:] - part[:2]).tolist()
    pixels = resized(photo[y1:y2, x1:x2], height, width)
    own = columns / image.original_size[1], rows / image.original_size[0]
    scale = own[0] * width / (x2 - x1), own[1] * height / (y2 - y1)
    return Prepared(pixels, scale, image.original_size, (x1 / own[0], y1 / own[1]))


def join_tiles(
    before: Faces,
    closer: Sequence[Faces],
    parts: NDArray[np.int64],
    image: Prepared,
    magnification: float,
    tile: tuple[int, int],
    iou: float,
) -> Faces:
    """The faces of a look and of the tiles of the next one.

    A face that an inner edge of its tile cuts is left to the look before and to other tiles. What the look
    before found whole within a tile, and not too large for it, is replaced by what the tile found there, and
    keeps a share of its score where the tile found nothing.

    Args:
        before: of the whole image.
        closer: of each tile, all in the original's pixels.
        parts: [T, 4] corners of the tiles in pixels of the closer look.
        image: as it was searched.
        magnification: of the closer look.
        tile: as in `look_closer`.
        iou: of the suppression between them.
    """
    if not len(parts):
        return before
    scale, size = _scale(image, magnification), _size(image, magnification)

    def whole(faces: Faces, part: NDArray[np.int64]) -> NDArray[np.bool_]:
        boxes = faces.boxes * scale
        inside = ((boxes[:, :2] >= part[:2] - 1) & (boxes[:, 2:] <= part[2:] + 1)).all(axis=1)
        small = _longer_sides(boxes) < _LARGEST * min(tile)
        good: NDArray[np.bool_] = inside & small & ~touches(boxes, part, inner_edges(part, size))
        return good

    kept = suppressed([faces[whole(faces, part)] for faces, part in zip(closer, parts)], iou)
    looked_at = np.any([whole(before, part) for part in parts], axis=0)
    found_again = pairwise_iou(before.boxes, kept.boxes).max(axis=1, initial=0) >= _SAME
    scores = np.where(looked_at, _UNCONFIRMED * before.scores, before.scores)
    left = replace(before, scores=scores.astype(np.float32))[~(looked_at & found_again)]
    return suppressed([left, *([kept] if len(kept) else [])], iou)


def _scale(image: Prepared, closer: float) -> NDArray[np.float64]:
    """[4] factors of a box's corners from the original's pixels to those of a closer look."""
    return np.tile(np.asarray(image.scale, np.float64) * closer, 2)


def _size(image: Prepared, closer: float) -> tuple[int, int]:
    """(height, width) of the whole image in a closer look."""
    height, width = image.pixels.shape[:2]
    return max(1, round(height * closer)), max(1, round(width * closer))


def _longer_sides(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    sides: NDArray[np.float64] = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0)
    return sides
