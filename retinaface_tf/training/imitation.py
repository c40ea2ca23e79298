"""Learning from what a trained network sees in the same picture at twice the size.

What a network lacks at a size is mostly small faces, and it finds those itself once the picture is enlarged.
So a teacher looks at each crop twice, enlarged and as it is, and tells every cell of the student how sure it should
be: distillation with soft targets (Hinton et al. 2015) in which the teacher's advantage is resolution, not
size (as in Qi et al. 2021, "Multi-scale aligned distillation for low-resolution detection").

The student keeps the teacher's way of answering, and only its scores move. Which cells answer for a face, with
which boxes and points, stays what the plain look says: boxes of small faces follow the habits of those who
labelled the teacher's data, and there is nothing to win by others. Each cell's score is moved, as a logit, by
the same amount as the best cell of its face has to be moved to say what the enlarged look says of that face. That
is its score, times how well the cell's box lies: a sure cell with a poor box is a false alarm. What the enlarged
look does not see is no face, but for large ones, of which it may only find parts: there the plain look counts.
"""

from __future__ import annotations

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
# So many boxes of the enlarged look are compared, the surest ones.
_FACES = 96
# A cell's box lies badly up to the first IoU and well from the second on.
_POOR, _GOOD = 0.3, 0.7
# The score of a cell for what the enlarged look does not see.
_UNSEEN = 0.02
# Codes beyond these are no boxes; without a limit their exponential could overflow.
_WILDEST = np.float32([1e4, 1e4, 40, 40])


@dataclass(frozen=True, kw_only=True)
class ImitationConfig:
    """Whom to imitate, and how much that weighs.

    Attributes:
        source: weights of the teacher, a preset or a file as in `init.source`; None for no imitation.
        limit: pixels of the plain picture, sqrt(W * H): of larger boxes the plain look decides.
        least_score: cells that are told less are told no box and no points.
        class_weight, box_weight, landmark_weight: of the three terms, each a sum over cells divided by
            the sum of the scores that were told.
    """

    source: str | None = None
    limit: float = 96.0
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
        weights = (self.class_weight, self.box_weight, self.landmark_weight)
        return dict(zip(IMITATED_TERMS, weights))


class Imitation:
    """The teacher, and how far a student is from it.

    Args:
        teacher: trained, with the anchors and variances of the student.
        size: side of the student's input in pixels.
        config: weights and limits.
    """

    def __init__(self, teacher: RetinaFaceNetwork, size: int, config: ImitationConfig):
        teacher.trainable = False
        self.config = config
        self.described = teacher.config
        self._look: Callable = lambda pictures: teacher(pictures, training=False)
        self._variances = (teacher.config.center_variance, teacher.config.size_variance)
        levels = teacher.config.levels
        self._anchors = generate_anchors(levels, size, size)
        self._enlarged_anchors = generate_anchors(levels, ENLARGED * size, ENLARGED * size)

    def check(self, student: RetinaFaceConfig) -> None:
        """Raises `ConfigError` where a student's cells are not those of the teacher."""
        for name in ("levels", "center_variance", "size_variance"):
            if getattr(student, name) != getattr(self.described, name):
                raise ConfigError(
                    f"The teacher {self.config.source} has other {name} than the network; "
                    "imitation.source must be a network of the same anchors."
                )

    def targets(self, enlarged, pictures):
        """What the student should say.

        Args:
            enlarged: RGB [B, 2 S, 2 S, 3] in 0..255.
            pictures: the same at [B, S, S, 3].

        Returns:
            [B, A, 15] for the A anchors of the student: score in 0..1, corner box and five points, x
            before y, in pixels of `pictures`.
        """
        near = self._opinion(self._look(enlarged), self._enlarged_anchors, float(ENLARGED))
        plain = self._opinion(self._look(pictures), self._anchors, 1.0)
        scores, surest = ops.top_k(near[..., 0], min(_FACES, near.shape[1]))
        faces = ops.take_along_axis(near, surest[..., None], axis=1)
        # [B, A, K]: how sure a cell should be of each face of the enlarged look, with the box it has.
        overlap = _overlaps(plain, faces)
        well = ops.clip((overlap - _POOR) / (_GOOD - _POOR), 0.0, 1.0)
        wanted = scores[:, None] * well
        mine = ops.argmax(wanted, axis=2)
        wanted = ops.max(wanted, axis=2)
        own = plain[..., 0]
        # What the best cell of a face says of it now.
        best = ops.max(ops.where(overlap >= _POOR, own[..., None], 0.0), axis=1)
        best = ops.take_along_axis(best, mine, axis=1)
        moved = ops.sigmoid(_logit(own) + _logit(wanted) - _logit(best))
        told = ops.where(wanted > 0, moved, ops.minimum(own, _UNSEEN))
        told = ops.where(_side(plain) >= self.config.limit, own, told)
        told = ops.concatenate([told[..., None], plain[..., 1:]], axis=-1)
        return ops.stop_gradient(told)

    def sums(self, outputs: dict, targets) -> tuple[dict, object]:
        """The loss of each picture, summed over cells.

        Args:
            outputs: the student's, for `pictures`.
            targets: of `targets`.

        Returns:
            The weighted terms by name, [B] each, and what they are to be divided by, summed over the
            batch: the scores that were told, [B].
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
        terms = {name: weights[name] * ops.sum(v, axis=1) for name, v in zip(weights, values)}
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


def shrink(enlarged):
    """Pictures [B, 2 S, 2 S, 3] -> float32 [B, S, S, 3], the means of 2x2 pixels."""
    return ops.average_pool(ops.cast(enlarged, "float32"), ENLARGED, ENLARGED)


def _logit(score):
    score = ops.clip(score, 1e-4, 1 - 1e-4)
    return ops.log(score) - ops.log(1 - score)


def _side(opinion):
    """sqrt(W * H) of the boxes in [..., 15]."""
    sides = opinion[..., 3:5] - opinion[..., 1:3]
    return ops.sqrt(ops.maximum(sides[..., 0] * sides[..., 1], 1e-6))


def _overlaps(first, second):
    """IoU [B, N, K] of the boxes in [B, N, 15] and [B, K, 15]."""
    a, b = first[:, :, None, 1:5], second[:, None, :, 1:5]
    sides = ops.minimum(a[..., 2:], b[..., 2:]) - ops.maximum(a[..., :2], b[..., :2])
    sides = ops.maximum(sides, 0.0)
    inner = sides[..., 0] * sides[..., 1]
    return inner / (_side(first)[:, :, None] ** 2 + _side(second)[:, None] ** 2 - inner)
