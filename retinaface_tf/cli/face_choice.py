"""Which of an image's faces `detect` keeps, in which order, and what it says of their quality."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from retinaface_tf.errors import ConfigError

if TYPE_CHECKING:
    from retinaface_tf.faces.faces import Faces
    from retinaface_tf.faces.quality import Quality

_ORDERS = ("score", "quality", "size", "position")


def check_min_quality(figure: float) -> None:
    """ConfigError unless a face can have this quality."""
    if not 0 <= figure <= 1:
        raise ConfigError(f"--min-quality {figure} must be within 0..1.")


@dataclass(frozen=True, kw_only=True)
class FaceChoice:
    """Options that choose among the faces found."""

    quality: Annotated[
        bool,
        typer.Option(
            "--quality",
            help="Say how sharp, large, well lit and frontal each face is, in JSON and CSV.",
        ),
    ] = False
    min_quality: Annotated[
        float | None, typer.Option(help="Leave out faces with a lower quality, 0 to 1.")
    ] = None
    largest: Annotated[
        int | None, typer.Option(metavar="N", help="Keep an image's N largest faces.")
    ] = None
    sort: Annotated[
        str,
        typer.Option(
            metavar="ORDER",
            help="Order of an image's faces: score, quality or size, the best or largest first; or "
            "position, from left to right.",
        ),
    ] = "score"

    def __post_init__(self):
        if self.sort not in _ORDERS:
            raise ConfigError(f"--sort {self.sort!r} must be one of {', '.join(_ORDERS)}.")
        if self.largest is not None and self.largest < 1:
            raise ConfigError(f"--largest {self.largest} must be at least 1.")
        if self.min_quality is not None:
            check_min_quality(self.min_quality)

    @property
    def needs_pixels(self) -> bool:
        """Whether faces have to be looked at again."""
        return self.quality or self.min_quality is not None or self.sort == "quality"

    def of(self, faces: Faces, pixels: np.ndarray | None) -> tuple[Faces, Quality | None]:
        """The chosen faces in their order, and their quality where it is to be said.

        Args:
            faces: of an image.
            pixels: uint8 RGB [H, W, 3] of the image, where `needs_pixels`.
        """
        from retinaface_tf.faces.quality import face_quality

        quality = face_quality(pixels, faces) if self.needs_pixels else None
        figure = faces.scores if quality is None else quality.figure
        size = np.prod(faces.boxes[:, 2:] - faces.boxes[:, :2], axis=1)
        chosen = np.arange(len(faces))
        if self.min_quality is not None:
            chosen = chosen[figure >= self.min_quality]
        if self.largest is not None:
            chosen = np.sort(chosen[np.argsort(-size[chosen], kind="stable")][: self.largest])
        keys = {
            "score": -faces.scores,
            "quality": -figure,
            "size": -size,
            "position": faces.boxes[:, [0, 2]].mean(axis=1),
        }
        chosen = chosen[np.argsort(keys[self.sort][chosen], kind="stable")]
        kept = None if quality is None or not self.quality else quality.of(chosen)
        return faces[chosen], kept
