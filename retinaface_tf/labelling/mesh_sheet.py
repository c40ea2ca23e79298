"""An image sheet of mesh labels, to be looked at: kept faces, then refused ones."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from retinaface_tf.data.readers.mesh_labels import MeshLabels
from retinaface_tf.images.read import read_image
from retinaface_tf.mesh.topology import load_topology

_TILE = 200
_KEPT, _REFUSED = (0, 200, 90), (235, 70, 70)


def draw_sheet(
    labels: MeshLabels,
    good: np.ndarray,
    path: Path,
    *,
    columns: int = 8,
    rows: int = 3,
    seed: int = 0,
) -> None:
    """Writes a PNG with `rows` rows of kept faces (green net) and one of refused ones (red).

    Args:
        labels: faces.
        good: bool [N], which are kept.
        path: of the PNG.
        columns, rows: of faces.
        seed: which faces are chosen.
    """
    rng = np.random.default_rng(seed)
    tiles = []
    for kept, count in ((True, columns * rows), (False, columns)):
        members = np.flatnonzero(good == kept)
        chosen = rng.permutation(members)[:count]
        part = [draw_label(labels, i, _KEPT if kept else _REFUSED) for i in chosen]
        part += [np.full((_TILE, _TILE, 3), 255, np.uint8)] * (count - len(part))
        tiles += part
    lines = [np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)]
    from retinaface_tf.images.save import save_image

    save_image(Path(path), np.vstack(lines))


def draw_label(labels: MeshLabels, face: int, color: tuple[int, int, int]) -> np.ndarray:
    """uint8 RGB [200, 200, 3]: a face with its mesh and, as dots, the detector's five points."""
    image = read_image(labels.images[labels.image[face]])
    box = labels.boxes[face]
    center, side = (box[:2] + box[2:]) / 2, 1.5 * float((box[2:] - box[:2]).max())
    scale = _TILE / side
    corner = center - side / 2
    matrix = np.array([[scale, 0, -corner[0] * scale], [0, scale, -corner[1] * scale]])
    tile = cv2.warpAffine(image, matrix, (_TILE, _TILE), flags=cv2.INTER_LINEAR)
    points = np.rint((labels.vertices[face, :, :2] - corner) * scale * 8).astype(np.int32)
    net = tile.copy()
    triangles = load_topology().triangles
    cv2.polylines(net, list(points[triangles]), True, color, 1, cv2.LINE_AA, 3)
    tile = cv2.addWeighted(tile, 0.5, net, 0.5, 0)
    for x, y in (labels.landmarks[face] - corner) * scale:
        cv2.circle(tile, (round(float(x)), round(float(y))), 2, (255, 255, 0), -1, cv2.LINE_AA)
    return tile
