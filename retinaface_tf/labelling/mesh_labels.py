"""Dense labels made semi-automatically: detector, face landmark model, our mesh, and filters.

The paper labelled its vertices the same way (CVPR 2020, section 4.1): a model fits every face, and
only good fits are kept: the landmark model is sure that there is a face, and its points agree with
the detector's five, which it does not see.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from retinaface_tf.data.readers.mesh_labels import (
    MeshLabelConfig,
    MeshLabels,
    disagreement,
    key_of,
    write_part,
)
from retinaface_tf.errors import ConfigError, DataError, ImageError
from retinaface_tf.faces.faces import Faces
from retinaface_tf.images.read import read_image
from retinaface_tf.inference.detector import RetinaFace
from retinaface_tf.mesh.landmark_model import FaceLandmarkModel, roi_of_face
from retinaface_tf.mesh.topology import MeshTopology
from retinaface_tf.util.files import require_folder

# Images with a shorter side than this are searched at twice their size: crops cut tightly.
_SMALL_IMAGE = 160


def label_images(
    paths: Sequence[Path],
    folder: Path,
    detector: RetinaFace,
    model: FaceLandmarkModel,
    topology: MeshTopology,
    config: MeshLabelConfig,
    progress: Callable[[int], object] | None = None,
    overwrite: bool = False,
) -> None:
    """Labels the faces of images; a run that was stopped is resumed.

    Every `config.per_part` images one file is written; one that is there and was made of the same
    images and settings is kept. The filters are applied on reading, so changing them costs nothing.

    Args:
        paths: the images; unreadable ones have no faces.
        overwrite: replace and remove parts of other images or settings.

    Raises:
        ConfigError: the folder holds such parts.
        DataError: there is no image, or the folder cannot be written.
    """
    if not paths:
        raise DataError("There is no image to label; check the folder.")
    require_folder(folder)
    settings = f"{config.threshold}|{config.min_side}|{topology.num_vertices}"
    parts, keys = {}, {}
    for number, start in enumerate(range(0, len(paths), config.per_part)):
        target = folder / f"part-{number:05d}.npz"
        parts[target] = [str(path) for path in paths[start : start + config.per_part]]
        text = "\n".join([settings, *parts[target]])
        keys[target] = hashlib.sha256(os.fsencode(text)).hexdigest()
    others = [p for p in sorted(folder.glob("part-*.npz")) if key_of(p) != keys.get(p, "")]
    if others and not overwrite:
        raise ConfigError(
            f"{others[0]} holds labels of other images or settings, or is damaged: --overwrite labels again, or choose another folder."
        )
    for target, part in parts.items():
        if target in others or not target.exists():
            labels = [_label_image(path, detector, model, topology, config) for path in part]
            write_part(target, MeshLabels.concatenate(labels), keys[target])
        if progress:
            progress(len(part))
    for other in set(others) - set(parts):
        other.unlink()


def _label_image(path, detector, model, topology, config) -> MeshLabels:
    """The faces of one image; none where it cannot be read."""
    try:
        image = read_image(path)
        short = min(image.shape[:2])
        size = 2 * short if short < _SMALL_IMAGE else None
        faces = detector.detect(image, threshold=config.threshold, size=size)
    except ImageError:
        image, faces = None, Faces.empty((1, 1))
    sides = faces.boxes[:, 2:] - faces.boxes[:, :2]
    faces = faces[(sides >= config.min_side).all(axis=1)]
    vertices = np.zeros((0, topology.num_vertices, 3), np.float32)
    presence = np.zeros(0, np.float32)
    if len(faces):
        points, presence = model(image, [roi_of_face(f.box, f.landmarks) for f in faces])
        vertices = topology.from_mediapipe(points)
        vertices[..., 2] -= vertices[:, topology.nose_tip, None, 2]
    apart = disagreement(vertices, faces.landmarks, faces.boxes)
    return MeshLabels(
        [path],
        np.zeros(len(faces), np.int32),
        faces.boxes,
        faces.landmarks,
        vertices.astype(np.float32),
        presence.astype(np.float32),
        apart.astype(np.float32),
    )
