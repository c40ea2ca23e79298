"""How far meshes are off, beside what knows less: a mean face in the box, or posed by five points.

Two kinds of truth: dense labels of held-out photos (`data label-mesh`), and AFLW2000-3D's 68
points with depth and head pose, which nothing here was made from.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from retinaface_tf.data.readers.mesh_labels import MeshLabels
from retinaface_tf.errors import DataError, ImageError
from retinaface_tf.evaluation.landmarks import MATCH_IOU, box_size, points_box
from retinaface_tf.evaluation.mat_files import read_mat
from retinaface_tf.geometry.boxes import pairwise_iou
from retinaface_tf.images.read import read_image
from retinaface_tf.inference.detector import RetinaFace
from retinaface_tf.mesh.landmark_model import FaceLandmarkModel, roi_of_face
from retinaface_tf.mesh.pose import (
    head_pose,
    mean_face_by_pose,
    mean_face_by_similarity,
    mean_face_in_box,
)
from retinaface_tf.mesh.topology import IBUG_POINTS, MeshTopology, five_of_vertices
from retinaface_tf.util.text_lines import MALFORMED

MEAN_IN_BOX = "mean face in the box"
MEAN_BY_SIMILARITY = "mean face by five points, turned in the image"
MEAN_BY_POSE = "mean face by five points, turned in space"
DENSE = "dense head"
MEDIAPIPE = "MediaPipe"
METHODS = (MEAN_IN_BOX, MEAN_BY_SIMILARITY, MEAN_BY_POSE, DENSE, MEDIAPIPE)


@dataclass(frozen=True)
class MeshErrors:
    """Errors of the methods, in the truth's order; NaN where a face was not found.

    Attributes:
        faces: labelled faces, found or not.
        vertex: by method, float64 [F], of all vertices in 3D (labels) over sqrt(W * H).
        points_2d, points_3d: by method, float64 [F], of the 68 points over sqrt(W * H).
        angles: by method, float64 [F, 3] absolute errors of yaw, pitch and roll in degrees.
    """

    faces: int
    vertex: dict[str, np.ndarray] = field(default_factory=dict)
    points_2d: dict[str, np.ndarray] = field(default_factory=dict)
    points_3d: dict[str, np.ndarray] = field(default_factory=dict)
    angles: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def methods(self) -> list[str]:
        """Those measured, the simplest first."""
        return [method for method in METHODS if method in self.points_2d]

    def found(self) -> int:
        """Faces that the detector found."""
        return int(np.isfinite(self.points_2d.get(MEAN_IN_BOX, np.zeros(0))).sum())


@dataclass(frozen=True)
class PosedFace:
    """An AFLW2000-3D face.

    Attributes:
        image: the image.
        points: float64 [68, 3] pixels, z away from the viewer.
        angles: float64 [3] yaw, pitch, roll in degrees.
    """

    image: Path
    points: np.ndarray
    angles: np.ndarray


def read_aflw2000(folder: Path) -> list[PosedFace]:
    """The faces of a folder of AFLW2000-3D's `.mat` files beside their images.

    Raises:
        DataError: there are none, or one has no points or pose.
    """
    faces = []
    for file in sorted(Path(folder).glob("*.mat")):
        try:
            content = read_mat(file)
            points = np.asarray(content["pt3d_68"], np.float64).T.reshape(68, 3)
            pitch, yaw, roll = np.ravel(content["Pose_Para"])[:3]
        except MALFORMED as error:
            raise DataError(f"{file} holds no 68 points and pose ({error}).") from None
        angles = np.degrees([yaw, pitch, roll])
        faces.append(PosedFace(file.with_suffix(".jpg"), points * [1, 1, -1], angles))
    if not faces:
        raise DataError(f"{folder} holds no .mat files of AFLW2000-3D.")
    return faces


def measure_labels(
    labels: MeshLabels,
    detector: RetinaFace,
    topology: MeshTopology,
    progress: Callable[[int], object] | None = None,
) -> MeshErrors:
    """Errors on labelled faces; boxes, points and meshes come from one detection each.

    The truth here is the landmark model's own, so that model is not among the methods.
    """
    rows = []
    for number in np.unique(labels.image):
        try:
            faces = detector.detect(labels.images[number])
        except ImageError:
            faces = None
        for i in np.flatnonzero(labels.image == number):
            truth = labels.vertices[i].astype(np.float64)
            meshes = _meshes(_best(faces, labels.boxes[i]), topology)
            angles = head_pose(truth[None], topology.mean)[0]
            rows.append(_errors(meshes, truth, box_size(labels.boxes[i]), angles, topology))
        if progress:
            progress(1)
    return _collect(rows)


def measure_aflw2000(
    faces: list[PosedFace],
    detector: RetinaFace,
    topology: MeshTopology,
    model: FaceLandmarkModel | None = None,
    progress: Callable[[int], object] | None = None,
) -> MeshErrors:
    """Errors on AFLW2000-3D; with `model`, also MediaPipe's own."""
    rows = []
    for face in faces:
        image = read_image(face.image)
        box = points_box(face.points[:, :2])
        found = _best(detector.detect(image), box)
        meshes = _meshes(found, topology)
        if found is not None and model is not None:
            points, _ = model(image, [roi_of_face(found.box, found.landmarks)])
            meshes[MEDIAPIPE] = topology.from_mediapipe(points)[0]
        rows.append(_errors(meshes, face.points, box_size(box), face.angles, topology))
        if progress:
            progress(1)
    return _collect(rows)


def _best(faces, box: np.ndarray):
    """The detection that overlaps a box most, or None."""
    if faces is None or not len(faces):
        return None
    overlap = pairwise_iou(faces.boxes, box[None])[:, 0]
    best = int(np.argmax(overlap))
    return faces[best] if overlap[best] >= MATCH_IOU else None


def _meshes(face, topology: MeshTopology) -> dict[str, np.ndarray]:
    """The mesh of each method for a detected face; none for None."""
    if face is None:
        return {}
    mean = topology.mean.astype(np.float64)
    five = five_of_vertices(mean)
    points = face.landmarks.astype(np.float64)
    meshes = {
        MEAN_IN_BOX: mean_face_in_box(mean, face.box.astype(np.float64)),
        MEAN_BY_SIMILARITY: mean_face_by_similarity(mean, five[:, :2], points),
        MEAN_BY_POSE: mean_face_by_pose(mean, five, points),
    }
    if face.vertices is not None:
        meshes[DENSE] = face.vertices.astype(np.float64)
    return meshes


def _errors(meshes, truth, size, angles, topology) -> dict:
    """A face's errors by method: dense where the truth is, on 68 points always.

    Depth has no origin: both are taken from the mean depth of the points compared.
    """
    row = {}
    for method, mesh in meshes.items():
        points, wanted = mesh[:IBUG_POINTS], truth[:IBUG_POINTS]
        turned = head_pose(mesh[None], topology.mean)[0]
        errors = {
            "points_2d": np.linalg.norm((points - wanted)[:, :2], axis=1).mean() / size,
            "points_3d": _distance(points, wanted) / size,
            "angles": np.abs((turned - angles + 180) % 360 - 180),
        }
        if len(truth) == len(mesh):
            errors["vertex"] = _distance(mesh, truth) / size
        row[method] = errors
    return row


def _distance(points: np.ndarray, wanted: np.ndarray) -> float:
    difference = points - wanted
    difference[:, 2] -= difference[:, 2].mean()
    return float(np.linalg.norm(difference, axis=1).mean())


def _collect(rows: list[dict]) -> MeshErrors:
    methods = {method for row in rows for method in row}
    result = MeshErrors(len(rows))
    for method in methods:
        kinds = {kind for row in rows for kind in row.get(method, {})}
        for kind in kinds:
            blank = np.full(3, np.nan) if kind == "angles" else np.nan
            values = [row.get(method, {}).get(kind, blank) for row in rows]
            getattr(result, kind)[method] = np.array(values, np.float64)
    return result
