"""What goes into a pre-training of the mesh decoder, and what it leaves: labels, files, an image."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from retinaface_tf.data.readers.mesh_labels import MeshLabelConfig, read_mesh_labels
from retinaface_tf.errors import ConfigError
from retinaface_tf.images.save import save_image
from retinaface_tf.mesh.topology import MeshTopology
from retinaface_tf.reconstruction.decoder import save_mesh_decoder
from retinaface_tf.reconstruction.head import FACE_CENTER, interpret
from retinaface_tf.reconstruction.renderer import MeshRenderer
from retinaface_tf.util.files import write_whole
from retinaface_tf.util.progress import Track
from training.decoder.face_meshes import FaceMeshes, read_face_meshes
from training.decoder.train_decoder import MeshDecoderTraining, Pretrained

RESULTS = ("decoder.npz", "figures.json", "faces.png")


def read_labelled(folders: Sequence[Path], topology: MeshTopology, track: Track) -> FaceMeshes:
    """The faces of folders of mesh labels, with the labels' own filters.

    Raises:
        ConfigError: there is no folder.
        DataError: the labels or their images cannot be read.
    """
    if not folders:
        raise ConfigError("Give folders of mesh labels with --labels, or --synthetic.")
    parts = []
    for folder in folders:
        labels = read_mesh_labels(folder, MeshLabelConfig())
        with track(f"reading faces of {folder}", len(labels)) as advance:
            parts.append(read_face_meshes(labels, topology, advance))
    return FaceMeshes.concatenate(parts)


def write_results(
    folder: Path, config: MeshDecoderTraining, topology: MeshTopology, result: Pretrained
) -> None:
    """Writes `RESULTS`."""
    decoder, figures_file, faces = (folder / name for name in RESULTS)
    save_mesh_decoder(result.decoder, decoder)
    figures = {**dataclasses.asdict(result.figures), "config": dataclasses.asdict(config)}
    write_whole(figures_file, json.dumps(figures, indent=2).encode())
    save_image(faces, draw_pairs(result.examples, topology))


def draw_pairs(pairs: np.ndarray, topology: MeshTopology, size: int = 112) -> np.ndarray:
    """An image of meshes, each column one face as it is and as it was decoded.

    Args:
        pairs: [2, N, V, 6] meshes in the topology's coordinates.
        topology: of the meshes.
        size: of each face in pixels.

    Returns:
        RGB uint8 [2 * size, N * size, 3]; every second face is turned.
    """
    renderer = MeshRenderer(topology.triangles, topology.num_vertices, size)
    numbers = np.zeros((pairs.shape[1], 16), np.float32)
    numbers[1::2, 4] = 0.8
    _, camera, light = interpret(keras.ops.convert_to_tensor(numbers))
    rows = []
    for meshes in pairs.astype(np.float32):
        vertices = meshes[..., :3] - np.float32(FACE_CENTER)
        image = renderer(vertices, meshes[..., 3:], camera, light).image
        rows.append(np.concatenate(list(keras.ops.convert_to_numpy(image)), axis=1))
    return np.uint8(np.clip(np.concatenate(rows), 0, 1) * 255)
