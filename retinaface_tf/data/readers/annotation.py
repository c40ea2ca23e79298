"""What every reader of labels returns: an image's file and its faces."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from retinaface_tf.errors import ConfigError, DataError


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
        attributes: what the labels say of the faces beside that, float32 [N] by name ("blur",
            "occlusion"), a mark being 1, NaN where they do not say. Faces marked "ignored" or "ignore"
            there are `ignored`.
    """

    path: Path
    boxes: np.ndarray
    landmarks: np.ndarray | None = None
    ignored: np.ndarray | None = None
    vertices: np.ndarray | None = None
    scores: np.ndarray | None = None
    attributes: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self):
        boxes = np.asarray(self.boxes, np.float32).reshape(-1, 4)
        count = len(boxes)
        landmarks, ignored, scores = self.landmarks, self.ignored, self.scores
        if landmarks is None:
            landmarks = np.full((count, 5, 2), np.nan)
        if ignored is None:
            ignored = np.zeros(count, bool)
        ignored = np.asarray(ignored, bool).reshape(count)
        if scores is None:
            scores = np.full(count, np.nan)
        object.__setattr__(self, "path", Path(self.path))
        object.__setattr__(self, "boxes", boxes)
        landmarks = np.asarray(landmarks, np.float32).reshape(count, 5, 2)
        object.__setattr__(self, "landmarks", landmarks)
        attributes = {
            name: np.asarray(values, np.float32).reshape(count)
            for name, values in self.attributes.items()
        }
        for mark in ("ignored", "ignore"):
            ignored = ignored | (attributes.pop(mark, np.zeros(count)) > 0)
        object.__setattr__(self, "attributes", attributes)
        object.__setattr__(self, "ignored", ignored)
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
            attributes={name: values[faces] for name, values in self.attributes.items()},
        )

    def attribute_rows(self) -> list[dict[str, float | int]]:
        """The attributes that are known of each face."""
        return [
            {
                name: int(values[face])
                if float(values[face]).is_integer()
                else decimals(values[face])
                for name, values in self.attributes.items()
                if np.isfinite(values[face])
            }
            for face in range(len(self.boxes))
        ]


class LabelledImage(NamedTuple):
    """What a writer of labels is given.

    Attributes:
        name: of the image, relative to the folder of images.
        size: (height, width) of the upright image.
    """

    name: str
    size: tuple[int, int]
    image: AnnotatedImage


def attribute_columns(rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """`AnnotatedImage.attributes` of what is said of each face; what is neither number nor mark is not kept."""
    numbers = [
        {name: value for name, value in row.items() if isinstance(value, int | float)}
        for row in rows
    ]
    names = {name: None for row in numbers for name in row}
    return {name: np.array([row.get(name, np.nan) for row in numbers], float) for name in names}


def decimals(values: np.ndarray) -> Any:
    """float32 numbers as the shortest decimals that are read as the same ones; nested lists."""
    values = np.asarray(values, np.float32)
    return np.array([float(str(v)) for v in values.ravel()]).reshape(values.shape).tolist()


def decimals_xywh(boxes: np.ndarray) -> list[list[float]]:
    """float32 [N, 4] corners -> x, y, width, height, from which `corners_from_xywh` makes the same."""
    return [
        [x1, y1, round(x2 - x1, 12), round(y2 - y1, 12)]
        for x1, y1, x2, y2 in decimals(np.reshape(boxes, (-1, 4)))
    ]


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


def corners_from_xywh(boxes) -> np.ndarray:
    """[N, 4] x, y, width, height of the left top corner and size -> float64 [N, 4] corners."""
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def ignore_faces(images: list[AnnotatedImage], rules: Sequence[str]) -> list[AnnotatedImage]:
    """The images with more faces `ignored`.

    Args:
        rules: "name" or "name=least": faces whose attribute is at least that (1), so "blur=2" ignores
            heavily blurred faces of WIDER FACE.

    Raises:
        ConfigError: a rule is not of this form, or no face has the attribute.
    """
    known = {name for image in images for name in image.attributes}
    for rule in rules:
        name, _, text = rule.partition("=")
        try:
            least = float(text or 1)
        except ValueError:
            raise ConfigError(f"ignore={rule!r} must be NAME or NAME=LEAST, as blur=2.") from None
        if name not in known:
            listed = ", ".join(sorted(known)) or "none"
            raise ConfigError(f"No face has the attribute {name!r}; the labels have {listed}.")
        images = [
            dataclasses.replace(image, ignored=image.ignored | (image.attributes[name] >= least))
            if name in image.attributes
            else image
            for image in images
        ]
    return images
