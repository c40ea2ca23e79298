"""People whom `blur` leaves as they are: told from all others by an embedder that the user brings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from retinaface_tf.cli.group import EmbedderOptions
from retinaface_tf.errors import ConfigError
from retinaface_tf.faces.faces import Faces
from retinaface_tf.faces.persons import check_similarity
from retinaface_tf.geometry.boxes import pairwise_iou, share_inside
from retinaface_tf.images.read import read_image

if TYPE_CHECKING:
    from retinaface_tf.faces.embedder import Embedder
    from retinaface_tf.inference.detector import Detector


@dataclass(frozen=True, kw_only=True)
class KeepOptions(EmbedderOptions):
    """Who is kept, and by which embedder."""

    keep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PHOTO,...", help="Do not blur this person in photos; give a photo of one face."
        ),
    ] = None
    embedder: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="For --keep, a face embedder: .onnx, .tflite or .keras."),
    ] = None
    similarity: Annotated[
        float, typer.Option(help="For --keep, the least cosine; depends on the embedder.")
    ] = 0.5

    def __post_init__(self):
        if bool(self.keep) != bool(self.embedder):
            raise ConfigError("--keep and --embedder go together.")
        check_similarity(self.similarity)

    def open(self, detector: Detector) -> KeptPeople:
        """Looks at the photos.

        Raises:
            ConfigError: a photo has not one face.
            ImageError, WeightsError: a photo or the embedder cannot be read.
        """
        from retinaface_tf.faces.embedder import open_embedder

        embedder, vectors = open_embedder(self.embedder, self.input), []
        for path in (part for text in self.keep for part in text.split(",")):
            pixels = read_image(path)
            faces = detector.detect(pixels)
            # The search leans to false alarms, whose scores are low.
            faces = faces[faces.scores > 0.6 * faces.scores.max(initial=0)]
            if len(faces) != 1:
                raise ConfigError(f"--keep {path} has {len(faces)} faces; give a photo of one.")
            vectors.append(faces.embed(pixels, embedder, mirror=self.mirror)[0])
        return KeptPeople(embedder, np.stack(vectors), self.similarity, self.mirror)


@dataclass(frozen=True, eq=False)
class KeptPeople:
    """Vectors [P, D] of length 1 of the people who are kept, and how alike their faces have to be."""

    embedder: Embedder
    vectors: np.ndarray
    similarity: float
    mirror: bool

    def others(self, faces: Faces, pixels: np.ndarray) -> Faces:
        """The faces that are none of theirs; of each person a photo has one, the most similar."""
        if not len(faces):
            return faces
        alike = faces.embed(pixels, self.embedder, mirror=self.mirror) @ self.vectors.T
        best = np.unique(alike.argmax(axis=0)[alike.max(axis=0) >= self.similarity])
        # A second, weaker detection of the same face would hide it.
        kept = faces.boxes[best]
        same = pairwise_iou(faces.boxes, kept) > 0.4
        same |= share_inside(faces.boxes[:, None], kept[None]) > 0.8
        return faces[~same.any(axis=1)]
