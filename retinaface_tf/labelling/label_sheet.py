"""An image sheet of labels, to be looked at: learnt faces green, ignored ones orange."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from retinaface_tf.data.readers.annotation import AnnotatedImage
from retinaface_tf.images.read import read_image

_TILE = 400
_LEARNT, _IGNORED = (0, 230, 90), (255, 150, 0)


def draw_label_sheet(
    images: Sequence[AnnotatedImage],
    path: Path,
    *,
    columns: int = 6,
    rows: int = 4,
    seed: int = 0,
) -> None:
    """Writes a PNG of labelled photos, drawn by lot; those with more faces more often.

    Args:
        images: photos and labels.
        path: of the PNG.
        columns, rows: of photos.
        seed: of the lot.
    """
    from retinaface_tf.images.save import save_image

    weight = np.array([1.0 + len(image.boxes) for image in images])
    count = min(columns * rows, len(images))
    chosen = np.random.default_rng(seed).choice(
        len(images), count, replace=False, p=weight / weight.sum()
    )
    tiles = [draw_labels(images[i]) for i in chosen]
    tiles += [np.full((_TILE, _TILE, 3), 255, np.uint8)] * (-count % columns)
    lines = [np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)]
    save_image(Path(path), np.vstack(lines))


def draw_labels(image: AnnotatedImage) -> np.ndarray:
    """uint8 RGB [400, 400, 3]: a photo with its labels."""
    pixels = read_image(image.path)
    scale = _TILE / max(pixels.shape[:2])
    size = [max(1, round(side * scale)) for side in pixels.shape[:2]]
    tile = np.full((_TILE, _TILE, 3), 255, np.uint8)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    tile[: size[0], : size[1]] = cv2.resize(pixels, size[::-1], interpolation=method)
    for box, points, ignored in zip(image.boxes, image.landmarks, image.ignored):
        x1, y1, x2, y2 = np.rint(box * scale).astype(int).tolist()
        cv2.rectangle(tile, (x1, y1), (x2, y2), _IGNORED if ignored else _LEARNT, 1)
        for x, y in points[np.isfinite(points).all(axis=1)] * scale:
            cv2.circle(tile, (round(float(x)), round(float(y))), 1, (255, 255, 0), -1)
    return tile
