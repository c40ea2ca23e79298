"""What every reader of labels returns: an image's file and its faces."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retinaface_tf.errors import DataError


@dataclass(frozen=True, eq=False)
class AnnotatedImage:
    """One image and its labelled faces, as the label file has them: nothing is repaired.

    Attributes:
        boxes: float32 [N, 4] corners x1, y1, x2, y2 in pixels, perhaps beyond the image.
        landmarks: float32 [N, 5, 2], the image's left eye, right eye, nose, left and right mouth
            corner in pixels; NaN where unlabelled. None means no face has any.
        ignored: bool [N], faces that count neither in training nor in evaluation. None: no face.
        vertices: float32 [N, V, 3] a dense mesh in pixels, z with the nose tip at 0, NaN for a face
            without one; None where no face has any.
        scores: float32 [N], how sure a teacher was of each face, 0..1, NaN where none said; None
            means no face has one. Of an ignored face too: it is then an uncertain one.
    """

    path: Path
    boxes: np.ndarray
    landmarks: np.ndarray | None = None
    ignored: np.ndarray | None = None
    vertices: np.ndarray | None = None
    scores: np.ndarray | None = None

    def __post_init__(self):
        boxes = np.asarray(self.boxes, np.float32).reshape(-1, 4)
        count = len(boxes)
        landmarks, ignored, scores = self.landmarks, self.ignored, self.scores
        if landmarks is None:
            landmarks = np.full((count, 5, 2), np.nan)
        if ignored is None:
            ignored = np.zeros(count, bool)
        if scores is None:
            scores = np.full(count, np.nan)
        object.__setattr__(self, "path", Path(self.path))
        object.__setattr__(self, "boxes", boxes)
        landmarks = np.asarray(landmarks, np.float32).reshape(count, 5, 2)
        object.__setattr__(self, "landmarks", landmarks)
        object.__setattr__(self, "ignored", np.asarray(ignored, bool).reshape(count))
        object.__setattr__(self, "scores", np.asarray(scores, np.float32).reshape(count))
        if self.vertices is not None:
            vertices = np.asarray(self.vertices, np.float32)
            vertices = vertices.reshape(count, vertices.shape[-2], 3)
            object.__setattr__(self, "vertices", vertices if vertices.size else None)

    @property
    def num_vertices(self) -> int:
        """Vertices of each face's mesh; 0 where no face has one."""
        return 0 if self.vertices is None else self.vertices.shape[1]

    @property
    def has_mesh(self) -> np.ndarray:
        """bool [N]: which faces have one."""
        if self.vertices is None:
            return np.zeros(len(self.boxes), bool)
        return np.isfinite(self.vertices).all(axis=(1, 2))

    def keep(self, faces: np.ndarray) -> AnnotatedImage:
        """The same image with the faces an index array or a boolean mask selects."""
        return dataclasses.replace(
            self,
            boxes=self.boxes[faces],
            landmarks=self.landmarks[faces],
            ignored=self.ignored[faces],
            vertices=None if self.vertices is None else self.vertices[faces],
            scores=self.scores[faces],
        )


def common_vertices(images) -> int:
    """Vertices of a face's mesh in a set of images; 0 where none has any.

    Raises:
        DataError: they have meshes of different topologies.
    """
    counts = {image.num_vertices for image in images} - {0}
    if len(counts) > 1:
        raise DataError(
            f"Faces of one set have meshes of {min(counts)} and of {max(counts)} vertices; label "
            "them with one topology."
        )
    return max(counts, default=0)


def corners_from_xywh(boxes, dtype=np.float32) -> np.ndarray:
    """[N, 4] x, y, width, height of the left top corner and size -> [N, 4] corners."""
    boxes = np.asarray(boxes, dtype).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
