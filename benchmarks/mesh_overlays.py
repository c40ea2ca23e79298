"""A sheet of 24 photos with the meshes the dense head gives their faces, to be looked at.

    python benchmarks/mesh_overlays.py PHOTOS... --out sheet.png [--model mesh.weights.h5]

Only photos that training kept apart are shown (by a hash of their names), unless --all.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from retinaface_tf import RetinaFace
from retinaface_tf.cli.output import save_picture
from retinaface_tf.inference.images import list_images, read_image
from retinaface_tf.training.dense_features import held_out_photos

TILE, COLUMNS, ROWS = 260, 8, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--preset", default="mobilenet0.25-mesh")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--least", type=float, default=30, help="smallest face in pixels")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    paths = [str(path) for path, _ in list_images(options.photos)]
    if not options.all:
        paths = [p for p, apart in zip(paths, held_out_photos(paths, 0.1)) if apart]
    order = np.random.default_rng(options.seed).permutation(len(paths))
    if options.model:
        detector = RetinaFace.from_file(options.model)
    else:
        detector = RetinaFace.from_preset(options.preset)
    tiles = []
    for i in order:
        image = read_image(paths[i])
        faces = detector.detect(image)
        if len(faces) and (faces.boxes[0, 2:] - faces.boxes[0, :2]).min() >= options.least:
            tiles.append(tile(image, faces))
        if len(tiles) == COLUMNS * ROWS:
            break
    tiles += [np.full((TILE, TILE, 3), 255, np.uint8)] * (COLUMNS * ROWS - len(tiles))
    rows = [np.hstack(tiles[k : k + COLUMNS]) for k in range(0, len(tiles), COLUMNS)]
    save_picture(options.out, np.vstack(rows))
    print(options.out)


def tile(image: np.ndarray, faces) -> np.ndarray:
    """The best face's surroundings, enlarged, with every mesh in it."""
    box = faces.boxes[0]
    center, side = (box[:2] + box[2:]) / 2, 1.7 * float((box[2:] - box[:2]).max())
    scale = TILE / side
    corner = center - side / 2
    matrix = np.array([[scale, 0, -corner[0] * scale], [0, scale, -corner[1] * scale]])
    part = cv2.warpAffine(image, matrix, (TILE, TILE), flags=cv2.INTER_LINEAR)
    moved = type(faces)(
        (faces.boxes - np.tile(corner, 2)) * scale,
        faces.scores,
        (faces.landmarks - corner) * scale,
        part.shape[:2],
        (faces.vertices - np.append(corner, 0)) * scale,
    )
    return moved.draw(part)


if __name__ == "__main__":
    main()
