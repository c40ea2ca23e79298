"""Files of mesh labels, as `data label-mesh` writes them."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retinaface_tf.data.readers.annotation import AnnotatedImage
from retinaface_tf.errors import DataError
from retinaface_tf.geometry.boxes import match_pairs, pairwise_iou
from retinaface_tf.mesh.topology import five_of_vertices
from retinaface_tf.util.files import is_folder
from retinaface_tf.util.npz import read_npz, write_npz
from retinaface_tf.util.options import check_range

# Least IoU of two boxes of one face: annotators' ones go up to the crown, the detector's do not.
SAME_FACE = 0.35


@dataclass(frozen=True, kw_only=True)
class MeshLabelConfig:
    """Which faces are labelled and kept.

    Attributes:
        threshold: least score of the detector.
        min_side: shorter side of the face's box in pixels; smaller faces give no good mesh.
        min_presence: the landmark model's probability that there is a face.
        max_disagreement: mean distance of its five points from the detector's, in sqrt(W * H) of
            the box.
        per_part: images whose labels are written together.
    """

    threshold: float = 0.8
    min_side: float = 30.0
    min_presence: float = 0.9
    max_disagreement: float = 0.08
    per_part: int = 250

    def __post_init__(self):
        check_range(self, "", "threshold min_presence", 0, 1)
        check_range(self, "", "min_side max_disagreement", 0)
        check_range(self, "", "per_part", 1)


ARRAYS = ("image", "boxes", "landmarks", "vertices", "presence", "disagreement")


@dataclass(frozen=True)
class MeshLabels:
    """Labelled faces of many images.

    Attributes:
        image: int32 [N] which image a face is in.
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

    @classmethod
    def concatenate(cls, parts: Sequence[MeshLabels]) -> MeshLabels:
        """The faces of all parts, at least one, and their images, each part's behind the last's."""
        first = np.cumsum([0, *(len(part.images) for part in parts)])
        parts = [
            dataclasses.replace(part, image=part.image + np.int32(number))
            for part, number in zip(parts, first)
        ]
        images = [image for part in parts for image in part.images]
        arrays = {name: np.concatenate([getattr(p, name) for p in parts]) for name in ARRAYS}
        return cls(images, **arrays)

    def keep(self, chosen: np.ndarray) -> MeshLabels:
        """The faces that an index array or a mask selects, of the same images."""
        arrays = {name: getattr(self, name)[chosen] for name in ARRAYS}
        return MeshLabels(images=self.images, **arrays)

    def good(self, config: MeshLabelConfig) -> np.ndarray:
        """bool [N], the filters' verdict."""
        sure = self.presence >= config.min_presence
        return sure & (self.disagreement <= config.max_disagreement)

    def annotated(self, good: np.ndarray | None = None) -> list[AnnotatedImage]:
        """As images with labels; images without a face are left out.

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
    """Images whose faces have the meshes of the labels' faces at the same places.

    A face is the same in both when the boxes overlap most among an image's and by at least
    `SAME_FACE` in IoU; a mesh goes to one face only. Images are the same by their resolved path.

    Raises:
        DataError: no image is the same.
    """
    faces_of: dict[str, list[int]] = {}
    places = [os.path.realpath(path) for path in labels.images]
    for face, image in enumerate(labels.image):
        faces_of.setdefault(places[image], []).append(face)
    joined, shared = [], 0
    for image in images:
        theirs = np.array(faces_of.get(os.path.realpath(image.path), ()), int)
        shared += len(theirs) > 0
        mine, others = match_pairs(pairwise_iou(image.boxes, labels.boxes[theirs]), SAME_FACE)
        if len(mine):
            vertices = np.full((len(image.boxes), *labels.vertices.shape[1:]), np.nan, np.float32)
            vertices[mine] = labels.vertices[theirs[others]]
            image = dataclasses.replace(image, vertices=vertices)
        joined.append(image)
    if not shared:
        first = labels.images[0] if labels.images else "none"
        raise DataError(
            f"The mesh labels are of other images (the first is {first}); label these ones with "
            "`retinaface-tf data label-mesh`."
        )
    return joined


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


def read_mesh_labels(folder: Path, config: MeshLabelConfig | None = None) -> MeshLabels:
    """What `data label-mesh` wrote.

    Args:
        config: its filters are applied; None keeps every face.

    Raises:
        DataError: the folder has no parts or one is damaged.
    """
    paths = sorted(Path(folder).glob("part-*.npz")) if is_folder(folder) else []
    if not paths:
        raise DataError(f"{folder} holds no mesh labels; run `retinaface-tf data label-mesh`.")
    labels = MeshLabels.concatenate([_read_part(path)[0] for path in paths])
    return labels.keep(labels.good(config)) if config else labels


def write_part(path: Path, labels: MeshLabels, key: str) -> None:
    """Writes the labels of some images; `key` names what they depend on.

    Raises:
        DataError: the file cannot be written.
    """
    arrays = {name: getattr(labels, name) for name in ARRAYS}
    arrays["images"] = np.frombuffer(json.dumps(labels.images).encode(), np.uint8)
    arrays["key"] = np.array(key)
    write_npz(path, arrays, compressed=False, error=DataError)


def key_of(path: Path) -> str | None:
    """The key of a part, None where it is missing or damaged."""
    try:
        return _read_part(path)[1]
    except DataError:
        return None


def _read_part(path: Path) -> tuple[MeshLabels, str]:
    remedy = "remove it and label again"
    arrays, _ = read_npz(path, key=None, limit=None, remedy=remedy, error=DataError)
    try:
        images = json.loads(arrays["images"].tobytes())
        return MeshLabels(images, **{n: arrays[n] for n in ARRAYS}), str(arrays.get("key", ""))
    except (KeyError, ValueError):
        raise DataError(f"{path} is not a part of mesh labels; {remedy}.") from None
