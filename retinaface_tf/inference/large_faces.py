"""Close-ups: faces larger than the largest anchor, found in a copy a quarter as wide.

A network detects faces up to about its largest anchor; a face that fills a 1080-pixel image is
larger. The copy has a sixteenth of the pixels, so searching it too costs little.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from retinaface_tf.config import DetectionSettings, RetinaFaceConfig
from retinaface_tf.faces.faces import Faces
from retinaface_tf.geometry.boxes import share_inside
from retinaface_tf.inference.postprocess import suppressed
from retinaface_tf.inference.preprocess import Prepared

SHRINKING = 4
# A cell without anchors of chosen sizes (its one anchor is the cell itself, as in YuNet) detects faces
# up to about this many strides: NASA's portrait is found whole up to 456 pixels, with stride 32.
_CELL_REACH = 16
# A face up to this many times the largest anchor still overlaps it well enough to be found.
_REACH = 1.25
# Of the copies only faces from this share of the largest anchor count: both searches find those,
# and smaller faces of the image itself stay as they were.
_LEAST = 0.75
# A detection with this share of its area in a close-up is part of it.
_INSIDE = 0.9
# Copies are searched where they cost at most this share of the image's own search.
MAX_COST = 0.1


def shrink_for_large_faces(
    prepared: Prepared,
    config: RetinaFaceConfig,
    input_shape: Callable[[int, int], tuple[int, int]],
) -> list[Prepared]:
    """Smaller copies of an image to be searched for faces beyond the largest anchor.

    Args:
        prepared: the image as it is searched itself.
        config: the network's anchors.
        input_shape: of the runtime; where it always runs at one size, copies are too expensive.

    Returns:
        No copy of an image whose short edge the largest anchor nearly fills, one of most others.
    """
    largest = _REACH * _largest_anchor(config)
    rows, columns = input_shape(*prepared.pixels.shape[:2])
    pixels, copies = prepared.pixels, []
    while min(pixels.shape[:2]) > largest:
        height, width = (max(1, round(side / SHRINKING)) for side in pixels.shape[:2])
        copy_rows, copy_columns = input_shape(height, width)
        if copy_rows * copy_columns > MAX_COST * rows * columns:
            break
        pixels = np.asarray(
            cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8
        )
        original_height, original_width = prepared.original_size
        scale = (width / original_width, height / original_height)
        copies.append(Prepared(pixels, scale, prepared.original_size))
    return copies


def join_large_faces(
    own: Faces,
    found: list[Faces],
    prepared: Prepared,
    config: RetinaFaceConfig,
    settings: DetectionSettings,
) -> Faces:
    """An image's own faces and the large ones of its copies.

    Args:
        own: of the image itself.
        found: of its copies, all in the original's pixels.
        prepared: the image as it was searched itself.
        config: the network's anchors.
        settings: `iou` and `max_faces` of the suppression between them.
    """
    largest = _largest_anchor(config)
    passes = [own]
    for faces in found:
        passes.append(faces[_sides(faces, prepared) > _LEAST * largest])
    if not any(len(faces) for faces in passes[1:]):
        return own
    joined = suppressed(passes, settings.iou)
    close_up = _sides(joined, prepared) > _REACH * largest
    return joined[~_inside(joined, close_up)][: settings.max_faces]


def _sides(faces: Faces, prepared: Prepared) -> NDArray[np.float64]:
    """[N] the longer sides in pixels of the image as it was searched itself."""
    sides = (faces.boxes[:, 2:] - faces.boxes[:, :2]) * np.asarray(prepared.scale)
    longer: NDArray[np.float64] = sides.max(axis=1, initial=0)
    return longer


def _inside(faces: Faces, close_up: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """bool [N]: lies within a close-up of higher score; eyes and mouths look like small faces."""
    share = share_inside(faces.boxes[:, None], faces.boxes[None, close_up])
    better = faces.scores[None, close_up] > faces.scores[:, None]
    inside: NDArray[np.bool_] = ((share > _INSIDE) & better).any(axis=1)
    return inside


def _largest_anchor(config: RetinaFaceConfig) -> float:
    """Of networks that predict from cells, what takes its place."""
    return max(
        _CELL_REACH * level.stride
        if level.anchor_sizes == (level.stride,)
        else max(level.anchor_sizes)
        for level in config.levels
    )
