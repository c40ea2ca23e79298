"""The mesh of one found face as a file for modelling programs."""

from pathlib import Path

import numpy as np

from retinaface_tf.mesh.files import sample_colors, write_obj, write_ply
from retinaface_tf.mesh.topology import load_topology


def write_face_mesh(path: Path, vertices: np.ndarray, image: np.ndarray, comment: str = "") -> None:
    """Writes a face's mesh as OBJ with texture coordinates or PLY with the photo's colours, by the suffix.

    Axes are those of modelling programs: x to the image's right, y up, z to the viewer, in pixels.

    Args:
        path: ends in .obj or .ply.
        vertices: [V, 3] in image pixels, z away from the viewer.
        image: uint8 RGB [H, W, 3], the image that was searched.

    Raises:
        DataError: the file cannot be written.
    """
    topology = load_topology()
    if path.suffix == ".ply":
        colors = sample_colors(image, vertices)
        write_ply(path, vertices, topology.triangles, colors, comment=comment)
    else:
        write_obj(path, vertices, topology.triangles, topology.uv, comment=comment)
