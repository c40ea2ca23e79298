"""Pages of labelled photos or faces for people to check the labels by eye."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from retinaface_tf.data.readers.annotation import AnnotatedImage
from retinaface_tf.data.readers.mesh_labels import MeshLabels
from retinaface_tf.errors import DataError
from retinaface_tf.faces.drawing import fit_into
from retinaface_tf.geometry.similarity import square_around
from retinaface_tf.images.read import read_image
from retinaface_tf.images.save import save_image
from retinaface_tf.mesh.topology import load_topology

_PHOTO_SIDE, _FACE_SIDE = 400, 200
_LEARNT, _IGNORED = (0, 230, 90), (255, 150, 0)
_KEPT, _REFUSED = (0, 200, 90), (235, 70, 70)
_POINT = (255, 255, 0)


def draw_label_sheet(
    images: Sequence[AnnotatedImage],
    path: Path,
    *,
    columns: int = 6,
    rows: int = 4,
    mark: str | None = None,
) -> None:
    """Writes a PNG of photos chosen at random: learnt faces green, ignored ones orange.

    Args:
        images: photos and labels; those with more faces are chosen more often.
        mark: of `images.save.mark_of`, which the file then carries.

    Raises:
        DataError: there is no photo.
    """
    if not images:
        raise DataError("There is no labelled photo to draw.")
    weight = np.array([1.0 + len(image.boxes) for image in images])
    count = min(columns * rows, len(images))
    rng = np.random.default_rng(0)
    chosen = rng.choice(len(images), count, replace=False, p=weight / weight.sum())
    _save_page(path, [_photo_tile(images[i]) for i in chosen], columns, mark)


def draw_mesh_sheet(
    labels: MeshLabels, good: np.ndarray, path: Path, *, mark: str | None = None
) -> None:
    """Writes a PNG with three rows of kept faces (green net) and one of refused ones (red).

    Args:
        good: bool [N], which are kept.
        mark: of `images.save.mark_of`, which the file then carries.
    """
    rng, columns = np.random.default_rng(0), 8
    tiles = []
    for kept, color, count in ((True, _KEPT, 3 * columns), (False, _REFUSED, columns)):
        chosen = rng.permutation(np.flatnonzero(good == kept))[:count]
        tiles += [_mesh_tile(labels, face, color) for face in chosen]
        tiles += [_blank(_FACE_SIDE)] * (count - len(chosen))
    _save_page(path, tiles, columns, mark)


def _save_page(path: Path, tiles: list[np.ndarray], columns: int, mark: str | None) -> None:
    tiles = tiles + [_blank(len(tiles[0]))] * (-len(tiles) % columns)
    lines = [np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)]
    save_image(Path(path), np.vstack(lines), mark=mark)


def _blank(side: int) -> np.ndarray:
    return np.full((side, side, 3), 255, np.uint8)


def _photo_tile(image: AnnotatedImage) -> np.ndarray:
    """uint8 RGB [400, 400, 3]: a photo with its labels."""
    pixels = read_image(image.path)
    scale = _PHOTO_SIDE / max(pixels.shape[:2])
    tile = fit_into(pixels, _PHOTO_SIDE, _PHOTO_SIDE, 255)
    for box, points, ignored in zip(image.boxes, image.landmarks, image.ignored):
        x1, y1, x2, y2 = np.rint(box * scale).astype(int).tolist()
        cv2.rectangle(tile, (x1, y1), (x2, y2), _IGNORED if ignored else _LEARNT, 1)
        for x, y in points[np.isfinite(points).all(axis=1)] * scale:
            cv2.circle(tile, (round(float(x)), round(float(y))), 1, _POINT, -1)
    return tile


def _mesh_tile(labels: MeshLabels, face: int, color: tuple[int, int, int]) -> np.ndarray:
    """uint8 RGB [200, 200, 3]: a face with its mesh and, as dots, the detector's five points."""
    image = read_image(labels.images[labels.image[face]])
    matrix = square_around(labels.boxes[face], _FACE_SIDE, context=1.5)
    scale, shift = matrix[0, 0], matrix[:, 2]
    tile = cv2.warpAffine(image, matrix, (_FACE_SIDE, _FACE_SIDE), flags=cv2.INTER_LINEAR)
    points = np.rint((labels.vertices[face, :, :2] * scale + shift) * 8).astype(np.int32)
    net = tile.copy()
    cv2.polylines(net, list(points[load_topology().triangles]), True, color, 1, cv2.LINE_AA, 3)
    tile = cv2.addWeighted(tile, 0.5, net, 0.5, 0)
    for x, y in labels.landmarks[face] * scale + shift:
        cv2.circle(tile, (round(float(x)), round(float(y))), 2, _POINT, -1, cv2.LINE_AA)
    return tile
