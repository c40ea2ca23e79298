"""Dense labels made semi-automatically: detector, face landmark model, our mesh, and filters.

The paper labelled its vertices the same way (CVPR 2020, section 4.1): a model fits every face, and
only fits that look right are kept. What "right" means here: the landmark model is sure that it sees
a face, and its points agree with the detector's five, which it knows nothing of.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retinaface_tf.data.annotation import AnnotatedImage
from retinaface_tf.detector import RetinaFace
from retinaface_tf.errors import DataError, ImageError
from retinaface_tf.geometry.boxes import pairwise_iou
from retinaface_tf.mesh.landmark_model import FaceLandmarkModel, roi_of_face
from retinaface_tf.mesh.topology import MeshTopology

# Pictures with a shorter side than this are searched at twice their size: crops cut tightly.
_SMALL_PICTURE = 160
# Least IoU of two boxes of one face: annotators' ones go up to the crown, the detector's do not.
SAME_FACE = 0.35
# Vertices of the 68 that make the five points; eyes are the middle of their rim.
_EYES = (slice(36, 42), slice(42, 48))
_OTHERS = (30, 48, 54)


@dataclass(frozen=True, kw_only=True)
class MeshLabelConfig:
    """Which faces are labelled and kept.

    Attributes:
        threshold: least score of the detector.
        min_side: shorter side of the face's box in pixels; smaller faces give no good mesh.
        min_presence: the landmark model's probability that there is a face.
        max_disagreement: mean distance of its five points from the detector's, in sqrt(W * H) of
            the box.
        per_part: pictures whose labels are written together.
    """

    threshold: float = 0.8
    min_side: float = 30.0
    min_presence: float = 0.9
    max_disagreement: float = 0.08
    per_part: int = 250


@dataclass(frozen=True)
class MeshLabels:
    """Labelled faces of many pictures.

    Attributes:
        images: the pictures' paths.
        image: int32 [N] which picture a face is in.
        boxes: float32 [N, 4] the detector's.
        landmarks: float32 [N, 5, 2] the detector's.
        vertices: float32 [N, V, 3] pixels, z with the nose tip at 0.
        presence: float32 [N].
        disagreement: float32 [N], see `MeshLabelConfig`.
    """

    images: list[str]
    image: np.ndarray
    boxes: np.ndarray
    landmarks: np.ndarray
    vertices: np.ndarray
    presence: np.ndarray
    disagreement: np.ndarray

    def __len__(self) -> int:
        return len(self.image)

    def keep(self, chosen: np.ndarray) -> MeshLabels:
        """The faces that an index array or a mask selects, of the same pictures."""
        arrays = {name: getattr(self, name)[chosen] for name in _ARRAYS}
        return MeshLabels(images=self.images, **arrays)

    def good(self, config: MeshLabelConfig) -> np.ndarray:
        """bool [N], the filters' verdict."""
        sure = self.presence >= config.min_presence
        return sure & (self.disagreement <= config.max_disagreement)

    def annotated(self, good: np.ndarray | None = None) -> list[AnnotatedImage]:
        """As pictures with labels; pictures without a face are left out.

        Args:
            good: bool [N]; a face that is not is ignored and has no mesh. None: all are.
        """
        good = np.ones(len(self), bool) if good is None else good
        images = []
        for i in np.unique(self.image):
            mine = self.image == i
            images.append(
                AnnotatedImage(
                    Path(self.images[i]),
                    self.boxes[mine],
                    self.landmarks[mine],
                    ~good[mine],
                    np.where(good[mine, None, None], self.vertices[mine], np.nan),
                )
            )
        return images


def join_meshes(images: Sequence[AnnotatedImage], labels: MeshLabels) -> list[AnnotatedImage]:
    """Pictures whose faces have the meshes of the labels' faces at the same places.

    A face is the same in both when the boxes overlap most among a picture's and by at least
    `SAME_FACE` in IoU; a mesh goes to one face only. Pictures are the same by their resolved path.

    Args:
        images: with labels of their own.
        labels: of some of these pictures' faces.

    Raises:
        DataError: no picture is the same.
    """
    faces_of: dict[str, list[int]] = {}
    places = [os.path.realpath(path) for path in labels.images]
    for number, picture in enumerate(labels.image):
        faces_of.setdefault(places[picture], []).append(number)
    joined, shared = [], 0
    for image in images:
        theirs = np.array(faces_of.get(os.path.realpath(image.path), ()), int)
        shared += len(theirs) > 0
        mine, others = _same_faces(image.boxes, labels.boxes[theirs])
        if len(mine):
            vertices = np.full((len(image.boxes), *labels.vertices.shape[1:]), np.nan, np.float32)
            vertices[mine] = labels.vertices[theirs[others]]
            image = dataclasses.replace(image, vertices=vertices)
        joined.append(image)
    if not shared:
        first = labels.images[0] if labels.images else "none"
        raise DataError(
            f"The mesh labels are of other pictures (the first is {first}); label these ones with "
            "`retinaface-tf data label-mesh`."
        )
    return joined


def _same_faces(boxes: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of boxes [N, 4] and others [M, 4], the ones that overlap most first: two int arrays."""
    overlap = pairwise_iou(boxes, others)
    pairs = []
    while overlap.size and overlap.max() >= SAME_FACE:
        pair = np.unravel_index(overlap.argmax(), overlap.shape)
        pairs.append(pair)
        overlap[pair[0]], overlap[:, pair[1]] = 0, 0
    first, second = np.array(pairs, int).reshape(-1, 2).T
    return first, second


_ARRAYS = ("image", "boxes", "landmarks", "vertices", "presence", "disagreement")


def five_of_vertices(vertices: np.ndarray) -> np.ndarray:
    """The detector's five points on a mesh whose first 68 vertices are iBUG's: [..., 5, D]."""
    eyes = [vertices[..., rim, :].mean(axis=-2) for rim in _EYES]
    return np.stack([*eyes, *(vertices[..., i, :] for i in _OTHERS)], axis=-2)


def disagreement(vertices: np.ndarray, landmarks: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Mean distance of five points of a mesh from a detector's, in sqrt(W * H) of the box.

    Args:
        vertices: [N, V, 3].
        landmarks: [N, 5, 2].
        boxes: [N, 4].
    """
    distance = np.linalg.norm(five_of_vertices(vertices)[..., :2] - landmarks, axis=-1)
    size = np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))
    return distance.mean(axis=1) / size


def label_pictures(
    paths: Sequence[Path],
    folder: Path,
    detector: RetinaFace,
    model: FaceLandmarkModel,
    topology: MeshTopology,
    config: MeshLabelConfig,
    progress: Callable[[int], object] | None = None,
) -> None:
    """Labels the faces of pictures; a run that was stopped goes on where it was.

    Every `config.per_part` pictures one file is written; one that is there and was made of the same
    pictures and settings is kept. The filters are applied on reading, so changing them costs nothing.

    Args:
        paths: the pictures; unreadable ones have no faces.
        folder: of the parts.
        detector, model, topology: what looks.
        config: which faces.
        progress: called with the number of pictures done since.

    Raises:
        DataError: there is no picture, or the folder cannot be written.
    """
    if not paths:
        raise DataError("There is no picture to label; check the folder.")
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
        if _key_of(target) != key:
            labels = _label_part(part, detector, model, topology, config)
            _write_part(target, labels, key)
        if progress:
            progress(len(part))
    for other in folder.glob("part-*.npz"):
        if other.name not in wanted:
            other.unlink()


def read_mesh_labels(folder: Path, config: MeshLabelConfig | None = None) -> MeshLabels:
    """What `label_pictures` wrote.

    Args:
        folder: of the parts.
        config: its filters are applied; None keeps every face.

    Raises:
        DataError: the folder has no parts or one is damaged.
    """
    parts = sorted(Path(folder).glob("part-*.npz"))
    if not parts:
        raise DataError(f"{folder} holds no mesh labels; run `retinaface-tf data label-mesh`.")
    images, arrays = [], {name: [] for name in _ARRAYS}
    for path in parts:
        try:
            with np.load(path, allow_pickle=False) as file:
                content = {name: file[name] for name in (*_ARRAYS, "images")}
        except Exception as error:  # numpy and zipfile report damage in many classes
            raise DataError(
                f"{path} is damaged ({type(error).__name__}); remove it and label again."
            ) from None
        content["image"] = content["image"] + len(images)
        images += json.loads(content.pop("images").tobytes())
        for name, values in content.items():
            arrays[name].append(values)
    labels = MeshLabels(images, **{name: np.concatenate(v) for name, v in arrays.items()})
    return labels.keep(labels.good(config)) if config else labels


def _label_part(paths, detector, model, topology, config) -> MeshLabels:
    from retinaface_tf.inference.images import read_image

    rows = {name: [] for name in _ARRAYS}
    for number, path in enumerate(paths):
        try:
            image = read_image(path)
            short = min(image.shape[:2])
            size = 2 * short if short < _SMALL_PICTURE else None
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
        for name in _ARRAYS
    }
    return MeshLabels(list(paths), **arrays)


def _write_part(path: Path, labels: MeshLabels, key: str) -> None:
    arrays = {name: getattr(labels, name) for name in _ARRAYS}
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


def _key_of(path: Path) -> str | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            return str(file["key"])
    except Exception:  # missing or damaged: made anew
        return None
