"""Dense labels made semi-automatically: detector, face landmark model, our mesh, and filters.

The paper labelled its vertices the same way (CVPR 2020, section 4.1): a model fits every face, and
only fits that look right are kept. What "right" means here: the landmark model is sure that it sees
a face, and its points agree with the detector's five, which it knows nothing of.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from retinaface_tf.data.readers.mesh_labels import (
    ARRAYS,
    MeshLabelConfig,
    MeshLabels,
    disagreement,
    key_of,
)
from retinaface_tf.errors import DataError, ImageError
from retinaface_tf.inference.detector import RetinaFace
from retinaface_tf.mesh.landmark_model import FaceLandmarkModel, roi_of_face
from retinaface_tf.mesh.topology import MeshTopology

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
) -> None:
    """Labels the faces of images; a run that was stopped goes on where it was.

    Every `config.per_part` images one file is written; one that is there and was made of the same
    images and settings is kept. The filters are applied on reading, so changing them costs nothing.

    Args:
        paths: the images; unreadable ones have no faces.
        folder: of the parts.
        detector, model, topology: what looks.
        config: which faces.
        progress: called with the number of images done since.

    Raises:
        DataError: there is no image, or the folder cannot be written.
    """
    if not paths:
        raise DataError("There is no image to label; check the folder.")
    folder.mkdir(parents=True, exist_ok=True)
    step = config.per_part
    starts = range(0, len(paths), step)
    wanted = []
    for number, start in enumerate(starts):
        part = [str(path) for path in paths[start : start + step]]
        settings = f"{config.threshold}|{config.min_side}|{topology.num_vertices}"
        key = hashlib.sha256("\n".join([settings, *part]).encode()).hexdigest()
        target = folder / f"part-{number:05d}.npz"
        wanted.append(target.name)
        if key_of(target) != key:
            labels = _label_part(part, detector, model, topology, config)
            _write_part(target, labels, key)
        if progress:
            progress(len(part))
    for other in folder.glob("part-*.npz"):
        if other.name not in wanted:
            other.unlink()


def _label_part(paths, detector, model, topology, config) -> MeshLabels:
    from retinaface_tf.images.read import read_image

    rows = {name: [] for name in ARRAYS}
    for number, path in enumerate(paths):
        try:
            image = read_image(path)
            short = min(image.shape[:2])
            size = 2 * short if short < _SMALL_IMAGE else None
            faces = detector.detect(image, threshold=config.threshold, size=size)
        except ImageError:
            continue
        sides = (faces.boxes[:, 2:] - faces.boxes[:, :2]).min(axis=1, initial=np.inf)
        faces = faces[sides >= config.min_side]
        if not len(faces):
            continue
        rois = [roi_of_face(face.box, face.landmarks) for face in faces]
        points, presence = model(image, rois)
        vertices = topology.from_mediapipe(points)
        vertices[..., 2] -= vertices[:, topology.nose_tip, None, 2]
        rows["image"].append(np.full(len(faces), number, np.int32))
        rows["boxes"].append(faces.boxes)
        rows["landmarks"].append(faces.landmarks)
        rows["vertices"].append(vertices)
        rows["presence"].append(presence)
        rows["disagreement"].append(disagreement(vertices, faces.landmarks, faces.boxes))
    empty = {
        "image": np.zeros(0, np.int32),
        "boxes": np.zeros((0, 4)),
        "landmarks": np.zeros((0, 5, 2)),
        "vertices": np.zeros((0, topology.num_vertices, 3)),
        "presence": np.zeros(0),
        "disagreement": np.zeros(0),
    }
    arrays = {
        name: np.concatenate([empty[name], *rows[name]]).astype(
            np.int32 if name == "image" else np.float32
        )
        for name in ARRAYS
    }
    return MeshLabels(list(paths), **arrays)


def _write_part(path: Path, labels: MeshLabels, key: str) -> None:
    arrays = {name: getattr(labels, name) for name in ARRAYS}
    arrays["images"] = np.frombuffer(json.dumps(labels.images).encode(), np.uint8)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            np.savez(file, key=np.array(key), **arrays)
        partial.replace(path)
    except OSError as error:
        raise DataError(f"Cannot write {path}: {error.strerror or error}.") from None
    finally:
        partial.unlink(missing_ok=True)
