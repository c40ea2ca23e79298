"""Images with posed, coloured mean faces whose vertices are known: tiny data for the dense terms."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from retinaface_tf.data.readers.annotation import AnnotatedImage
from retinaface_tf.images.save import encode_jpeg
from retinaface_tf.mesh.topology import five_of_vertices, load_topology
from tests.helpers.shapes import rotation_of_angles
from training.decoder.synthetic_meshes import random_shapes


def meshed_image(number: int, side: int = 96) -> tuple[bytes, AnnotatedImage]:
    """An image of two faces: the first one has a mesh, the second has boxes and points only."""
    rng = np.random.default_rng((7, number))
    topology = load_topology()
    pixels = rng.integers(90, 120, (side, side, 3)).astype(np.uint8)
    shapes = random_shapes(topology, 2, rng).astype(np.float64)
    meshes = []
    for shape, column in zip(shapes, (0.28, 0.74)):
        turn = rotation_of_angles(*np.radians(rng.normal(0, (20, 10, 10))))
        center = np.array([column * side, rng.uniform(0.35, 0.65) * side, 0])
        mesh = shape @ turn.T * rng.uniform(0.25, 0.4) * side + center
        mesh[:, 2] -= mesh[topology.nose_tip, 2]
        meshes.append(mesh)
        skin = rng.uniform(120, 255, 3)
        hull = cv2.convexHull(np.float32(mesh[:, :2])).astype(np.int32)
        cv2.fillConvexPoly(pixels, hull, skin.tolist())
        for point in five_of_vertices(mesh)[:, :2]:
            cv2.circle(pixels, np.int32(point).tolist(), 1, (30, 20, 20), -1)
    vertices = np.float32(meshes)
    boxes = np.concatenate([vertices[..., :2].min(axis=1), vertices[..., :2].max(axis=1)], axis=1)
    landmarks = five_of_vertices(vertices)[..., :2]
    vertices[1] = np.nan
    image = AnnotatedImage(Path(f"{number}.jpg"), boxes, landmarks, vertices=vertices)
    return encode_jpeg(pixels), image


def write_mesh_labels(folder: Path, count: int, side: int = 96) -> Path:
    """Such images and labels of them, as `data label-mesh` writes them: the folder of the labels.

    The second face of each is one that the landmark model was not sure of.
    """
    labels = folder / "labels"
    labels.mkdir(parents=True)
    rows = {"image": [], "boxes": [], "landmarks": [], "vertices": []}
    paths = []
    for number in range(count):
        encoded, image = meshed_image(number, side)
        paths.append(folder / image.path)
        paths[-1].write_bytes(encoded)
        rows["image"] += [number] * 2
        rows["boxes"].append(image.boxes)
        rows["landmarks"].append(image.landmarks)
        rows["vertices"].append(np.nan_to_num(image.vertices))
    arrays = {n: np.concatenate(v) for n, v in rows.items() if n != "image"}
    names = np.frombuffer(json.dumps([str(path) for path in paths]).encode(), np.uint8)
    np.savez(
        labels / "part-00000.npz",
        images=names,
        image=np.int32(rows["image"]),
        presence=np.float32([0.99, 0.2] * count),
        disagreement=np.zeros(2 * count, np.float32),
        **arrays,
    )
    return labels
