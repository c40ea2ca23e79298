"""Options of the training data. Importing them loads neither TensorFlow nor OpenCV."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from retinaface_tf.errors import ConfigError
from retinaface_tf.util.options import MAX_SEED, check_range


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """What is done to an image before the network sees it (1905.00641, section 4.2).

    Attributes:
        crop_scale: smallest and largest side of the square crop, in short edges of the image;
            (0.3, 1) in the papers. Above 1 the crop reaches over the image, up to 2 in SCRFD,
            which makes more small faces.
        face_sampling: probability that the crop is chosen for one face of the image instead: it
            gets a side drawn from `face_sizes`, each octave alike, so that rare sizes are seen as often
            as common ones (data-anchor-sampling, Tang et al. 2018, PyramidBox, section 3.3).
        face_sizes: smallest and largest such side in pixels of the network's input.
        flip: probability of mirroring left to right.
        photometric: probability of each of brightness, contrast, saturation and hue changing.
        rotate: probability of a turn by 90, 180 or 270 degrees.
        paste: probability of each of up to four faces of `data.paste` being put into the image.
        paste_sizes: smallest and largest longer side of such a face, in pixels of the network's input.
        degrade: probability of each of fewer pixels, JPEG compression, little light and grey.
        min_face_size: faces with a side below this many pixels of the network's input are ignored.
    """

    crop_scale: tuple[float, float] = (0.3, 1.0)
    face_sampling: float = 0.0
    face_sizes: tuple[float, float] = (8.0, 256.0)
    flip: float = 0.5
    photometric: float = 0.5
    rotate: float = 0.0
    paste: float = 0.0
    paste_sizes: tuple[float, float] = (8.0, 80.0)
    degrade: float = 0.0
    min_face_size: float = 4.0

    def __post_init__(self):
        low, high = self.crop_scale
        if not 0 < low <= high <= 2:
            raise ConfigError(f"augment.crop_scale={self.crop_scale} must rise within 0..2.")
        for name in ("face_sizes", "paste_sizes"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ConfigError(f"augment.{name}={(low, high)} must rise and be positive.")
        check_range(self, "augment", "face_sampling flip photometric rotate paste degrade", 0, 1)
        check_range(self, "augment", "min_face_size", 0)

    def enlarged(self, factor: float) -> AugmentConfig:
        """The same for images `factor` times larger: sizes in pixels grow with them."""
        return dataclasses.replace(
            self,
            face_sizes=tuple(size * factor for size in self.face_sizes),
            paste_sizes=tuple(size * factor for size in self.paste_sizes),
            min_face_size=self.min_face_size * factor,
        )


@dataclass(frozen=True, kw_only=True)
class MatchConfig:
    """Thresholds of the IoU between anchor and face: positive above, negative below.

    Attributes:
        positive_threshold, negative_threshold: of a network without cascade.
        dynamic: faces are matched with the boxes the network predicts now instead of its anchors, so
            a cell learns to be sure of a face that it locates well (dynamic label assignment, as
            in Ge et al. 2021, "OTA", and YuNet). For networks that were trained before: one that
            locates nothing yet has the forced matches alone. Without cascade.
        per_face: most positives of a face, those that overlap it most; further ones are neither
            learnt nor background. A hundred cells locate a large face, and small ones would not
            count beside it. 0 for no limit.
        cascade_positive_thresholds, cascade_negative_thresholds: of one with; first for the
            anchors, then for the boxes the first stage made of them.
    """

    positive_threshold: float = 0.5
    negative_threshold: float = 0.3
    dynamic: bool = False
    per_face: int = 0
    cascade_positive_thresholds: tuple[float, float] = (0.7, 0.5)
    cascade_negative_thresholds: tuple[float, float] = (0.3, 0.4)

    def __post_init__(self):
        check_range(self, "match", "per_face", 0)
        for negative, positive in (self.thresholds(False), *map(self._stage, (0, 1))):
            if not 0 < negative <= positive < 1:
                raise ConfigError(
                    f"match thresholds {negative} (negative) and {positive} (positive) must rise "
                    "within 0..1."
                )

    def thresholds(self, cascade: bool) -> tuple[float, float]:
        """(negative, positive) of the anchors, for a network with or without cascade."""
        return self._stage(0) if cascade else (self.negative_threshold, self.positive_threshold)

    @property
    def refined_thresholds(self) -> tuple[float, float]:
        """(negative, positive) of the first stage's boxes."""
        return self._stage(1)

    def _stage(self, stage: int) -> tuple[float, float]:
        return self.cascade_negative_thresholds[stage], self.cascade_positive_thresholds[stage]


@dataclass(frozen=True, kw_only=True)
class SyntheticConfig:
    """What is drawn.

    Attributes:
        train, validation: number of images in each set.
        size: side of the square images in pixels.
        max_faces: most faces in an image.
        min_face: side of the smallest faces in pixels; the largest fill the image.
        seed: of everything; validation images never share a seed with training ones.
    """

    train: int = 1200
    validation: int = 100
    size: int = 256
    max_faces: int = 24
    min_face: float = 10.0
    seed: int = 0

    def __post_init__(self):
        check_range(self, "synthetic", "size", 64, 8192)
        check_range(self, "synthetic", "min_face", 1, self.size)
        check_range(self, "synthetic", "seed", 0, MAX_SEED)
        check_range(self, "synthetic", "train max_faces", 1, 1_000_000)
        check_range(self, "synthetic", "validation", 0, 1_000_000)
