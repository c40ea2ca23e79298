"""Learning from what a trained network sees in the same picture at twice the size.

What a network lacks at a size is mostly small faces, and it finds those itself once the picture is enlarged.
So a teacher of the same architecture looks at each crop twice, enlarged and as it is, and tells every cell
of the student how sure it should be of a face, and where that is: distillation with soft targets (Hinton
et al. 2015) in which the teacher's advantage is resolution, not size (as in Qi et al. 2021, "Multi-scale
aligned distillation for low-resolution detection").

Levels an octave apart make the two fit: a cell of stride 2s in the enlarged picture covers what one of
stride s covers in the picture itself, and shows a face as large in strides. So the student's level of
stride s is told what the teacher's of stride 2s found enlarged; its finest level also what the best of the
four finest cells there found, in faces too small for any level of its own; and its coarsest what the teacher
found in the picture as it is. Where a face is large enough to be seen plainly the enlarged look would only find
its parts: above a limit the plain look counts, below it the enlarged one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from keras import ops

from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.errors import ConfigError
from retinaface_tf.geometry.anchors import generate_anchors
from retinaface_tf.geometry.coding import decode_boxes
from retinaface_tf.losses.multitask import iou_loss, smooth_l1
from retinaface_tf.models import RetinaFaceNetwork

# The enlarged picture's side over the plain one's.
ENLARGED = 2
IMITATED_TERMS = ("imitated_class", "imitated_box", "imitated_landmark")
# Codes beyond these are no boxes; without a limit their exponential could overflow.
_WILDEST = np.float32([1e4, 1e4, 40, 40])


@dataclass(frozen=True, kw_only=True)
class ImitationConfig:
    """Whom to imitate, and how much that weighs.

    Attributes:
        source: weights of the teacher, a preset or a file as in `init.source`; None for no imitation.
        limit: pixels of the plain picture, sqrt(W * H): smaller faces are told by the enlarged look.
        least_score: cells that the teacher gives less are told no box and no points.
        class_weight, box_weight, landmark_weight: of the three terms, each a sum over cells divided by
            the sum of the teacher's scores.
    """

    source: str | None = None
    limit: float = 64.0
    least_score: float = 0.2
    class_weight: float = 1.0
    box_weight: float = 1.0
    landmark_weight: float = 0.5

    def __post_init__(self):
        if self.limit <= 0 or not 0 < self.least_score < 1:
            raise ConfigError(
                f"imitation.limit={self.limit} must be positive and least_score="
                f"{self.least_score} within 0..1."
            )

    @property
    def weights(self) -> dict[str, float]:
        """The terms' weights by their names."""
        return dict(zip(IMITATED_TERMS, (self.class_weight, self.box_weight, self.landmark_weight)))


class Imitation:
    """The teacher, and how far a student is from it.

    Args:
        teacher: trained, of the student's configuration of levels.
        size: side of the student's input in pixels.
        config: weights and limits.

    Raises:
        ConfigError: the levels are not one anchor a cell at strides that double.
    """

    def __init__(self, teacher: RetinaFaceNetwork, size: int, config: ImitationConfig):
        check_levels(teacher.config)
        teacher.trainable = False
        self.config = config
        self._look: Callable = lambda pictures: teacher(pictures, training=False)
        self._variances = (teacher.config.center_variance, teacher.config.size_variance)
        levels = teacher.config.levels
        self._anchors = generate_anchors(levels, size, size)
        self._enlarged_anchors = generate_anchors(levels, ENLARGED * size, ENLARGED * size)
        self._sides = [math.ceil(size / level.stride) for level in levels]

    def targets(self, enlarged, pictures):
        """What the student should say.

        Args:
            enlarged: RGB [B, 2 S, 2 S, 3] in 0..255.
            pictures: the same at [B, S, S, 3].

        Returns:
            [B, A, 15] for the A cells of the student: score in 0..1, corner box and five points, x
            before y, in pixels of `pictures`.
        """
        near = self._opinion(self._look(enlarged), self._enlarged_anchors, float(ENLARGED))
        plain = self._opinion(self._look(pictures), self._anchors, 1.0)
        small = ops.cast(_side(near) < self.config.limit, near.dtype)
        near = _with_scores(near, near[..., 0] * small)
        large = ops.cast(_side(plain) >= self.config.limit, plain.dtype)
        plain = _with_scores(plain, plain[..., 0] * large)
        near = _levels(near, [ENLARGED * side for side in self._sides])
        plain = _levels(plain, self._sides)
        told = []
        for level, own in enumerate(plain):
            opinions = [own, *near[level + 1 : level + 2]]
            if level == 0:
                opinions.append(_surest(_four_cells(near[0], ENLARGED * self._sides[0])))
            told.append(_surest(ops.stack(opinions, axis=2)))
        return ops.stop_gradient(ops.concatenate(told, axis=1))

    def sums(self, outputs: dict, targets) -> tuple[dict, object]:
        """The loss of each picture, summed over cells.

        Args:
            outputs: the student's, for `pictures`.
            targets: of `targets`.

        Returns:
            The weighted terms by name, [B] each, and what they are to be divided by, summed over the
            batch: the teacher's scores, [B].
        """
        found = self._opinion(outputs, self._anchors, 1.0, logits=True)
        score = targets[..., 0]
        # The cross entropy less that of the teacher itself: 0 where the two say the same.
        sure = ops.clip(score, 1e-5, 1 - 1e-5)
        logit = found[..., 0]
        own = sure * ops.log(sure) + (1 - sure) * ops.log(1 - sure)
        classes = sure * ops.softplus(-logit) + (1 - sure) * ops.softplus(logit) + own
        weight = ops.where(score > self.config.least_score, score, 0.0)
        told = weight[..., None] > 0
        # Cells without a face are not compared: their boxes may be anything, infinite too.
        boxes = ops.where(told, found[..., 1:5], targets[..., 1:5])
        points = ops.where(told, found[..., 5:], targets[..., 5:])
        overlap = iou_loss(boxes, targets[..., 1:5], complete=True)
        apart = (points - targets[..., 5:]) / _side(targets)[..., None]
        distance = ops.sum(smooth_l1(apart, 0.1), axis=-1)
        values = (classes, weight * overlap, weight * distance)
        weights = self.config.weights
        terms = {
            name: weights[name] * ops.sum(v, axis=1) for name, v in zip(IMITATED_TERMS, values)
        }
        return terms, ops.sum(score, axis=1)

    def _opinion(self, outputs: dict, anchors: np.ndarray, scale: float, logits: bool = False):
        """[B, A, 15]: score or its logit, box and points in the picture's pixels over `scale`."""
        outputs = {name: ops.cast(value, "float32") for name, value in outputs.items()}
        logit = outputs["class_logits"][..., 1] - outputs["class_logits"][..., 0]
        codes = ops.clip(outputs["box_deltas"], -_WILDEST, _WILDEST)
        boxes = decode_boxes(codes, ops.convert_to_tensor(anchors), *self._variances) / scale
        center, size = np.tile(anchors[:, :2], 5), np.tile(anchors[:, 2:], 5)
        points = (center + outputs["landmark_deltas"] * self._variances[0] * size) / scale
        score = logit if logits else ops.sigmoid(logit)
        return ops.concatenate([score[..., None], boxes, points], axis=-1)


def check_levels(config: RetinaFaceConfig) -> None:
    """Raises `ConfigError` where imitation is not defined for a network."""
    strides = [level.stride for level in config.levels]
    doubling = all(b == ENLARGED * a for a, b in zip(strides, strides[1:]))
    if not doubling or any(len(level.anchor_sizes) != 1 for level in config.levels):
        raise ConfigError(
            "imitation needs a network with one anchor a cell, at strides that double from level to "
            f"level; these are {strides}."
        )


def shrink(enlarged):
    """Pictures [B, 2 S, 2 S, 3] -> float32 [B, S, S, 3], the means of 2x2 pixels."""
    return ops.average_pool(ops.cast(enlarged, "float32"), ENLARGED, ENLARGED)


def _side(opinion):
    """sqrt(W * H) of the boxes in [..., 15]."""
    sides = opinion[..., 3:5] - opinion[..., 1:3]
    return ops.sqrt(ops.maximum(sides[..., 0] * sides[..., 1], 1e-6))


def _with_scores(opinion, scores):
    return ops.concatenate([scores[..., None], opinion[..., 1:]], axis=-1)


def _levels(opinion, sides: list[int]) -> list:
    ends = np.cumsum([side**2 for side in sides])
    return ops.split(opinion, ends[:-1].tolist(), axis=1)


def _four_cells(level, side: int):
    """[B, side^2, 15] -> [B, (side / 2)^2, 4, 15]: the cells that make one of twice the stride."""
    half = side // 2
    cells = ops.reshape(level, (-1, half, 2, half, 2, 15))
    return ops.reshape(ops.transpose(cells, (0, 1, 3, 2, 4, 5)), (-1, half * half, 4, 15))


def _surest(opinions):
    """[B, A, K, 15] -> [B, A, 15], of each cell the opinion with the highest score."""
    best = ops.argmax(opinions[..., 0], axis=2)[..., None, None]
    return ops.take_along_axis(opinions, best, axis=2)[:, :, 0]
