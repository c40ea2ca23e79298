"""Learning from what a trained network sees in several looks at the same image.

A detector that looks at an image more than once, mirrored and at other sizes, and votes, is much better than
at one look: mostly in small faces, which it finds itself once the image is enlarged, and in where boxes lie.
So a teacher looks at each crop several times, and a student with one look learns what the votes came to:
distillation with soft targets (Hinton et al. 2015) in which the teacher has more looks instead of more
layers (test-time augmentation distilled, as in Radosavovic et al. 2018, "Data distillation").

The student keeps the teacher's way of answering: which cells speak for a face stays what the plain look says, and
each cell's score is moved, as a logit, by as much as the face's best cell has to be moved to say what the looks
say on average. A look says for a cell how sure it is of a face there, times how well the cell's box lies on it:
a sure cell with a poor box is a false alarm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from keras import ops

from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.errors import ConfigError
from retinaface_tf.faces.faces import MIRRORED_POINTS
from retinaface_tf.geometry.anchors import generate_anchors
from retinaface_tf.geometry.box_coding import decode_boxes
from retinaface_tf.geometry.boxes import pairwise_iou
from retinaface_tf.losses.multitask import iou_loss, smooth_l1
from retinaface_tf.models import RetinaFaceNetwork

# The side of the images that looks are made of over that of the student's.
ENLARGED = 2
DISTILLATION_TERMS = ("imitated_class", "imitated_box", "imitated_landmark")
# So many boxes of a look are compared, the surest ones.
_FACES = 96
# A cell's box lies badly up to the first IoU and well from the second on.
_POOR, _GOOD = 0.3, 0.5
# The most a cell may say where no look sees anything.
_UNSEEN = 0.02
# Deltas beyond these are no boxes; without a limit their exponential could overflow.
_WILDEST = np.float32([1e4, 1e4, 40, 40])


@dataclass(frozen=True, kw_only=True)
class DistillationConfig:
    """Whom to imitate, and how much that weighs.

    Attributes:
        source: weights of the teacher, a preset or a file as in `init.source`; None for no imitation.
        scales: sides of the looks as parts of the student's side, beside the plain look; each up to
            2, rounded so that it is a whole number of the coarsest cells.
        mirrored: the same of looks at the mirror image.
        least_score: cells that are told less are told no box and no points.
        class_weight, box_weight, landmark_weight: of the three terms, each a sum over cells divided by
            the sum of the scores that were told.
    """

    source: str | None = None
    scales: tuple[float, ...] = (1.2,)
    mirrored: tuple[float, ...] = (1.0, 1.5)
    least_score: float = 0.2
    class_weight: float = 1.0
    box_weight: float = 1.0
    landmark_weight: float = 0.5

    def __post_init__(self):
        for name in ("scales", "mirrored"):
            object.__setattr__(self, name, tuple(float(s) for s in getattr(self, name)))
            if not all(0.25 <= scale <= ENLARGED for scale in getattr(self, name)):
                raise ConfigError(f"imitation.{name}={getattr(self, name)} must be in 0.25..2.")
        if not 0 < self.least_score < 1:
            raise ConfigError(f"imitation.least_score={self.least_score} must be within 0..1.")

    @property
    def weights(self) -> dict[str, float]:
        """The terms' weights by their names."""
        weights = (self.class_weight, self.box_weight, self.landmark_weight)
        return dict(zip(DISTILLATION_TERMS, weights))


class Distillation:
    """The teacher, and how far a student is from it.

    Args:
        teacher: trained, with the anchors and variances of the student.
        size: side of the student's input in pixels.
        config: looks and weights.
    """

    def __init__(self, teacher: RetinaFaceNetwork, size: int, config: DistillationConfig):
        teacher.trainable = False
        self.config = config
        self._size, self._described = size, teacher.config
        self._ask: Callable = lambda images: teacher(images, training=False)
        self._anchors = generate_anchors(teacher.config.levels, size, size)

    def check(self, student: RetinaFaceConfig) -> None:
        """Raises `ConfigError` where a student's cells are not those of the teacher."""
        for name in ("levels", "center_variance", "size_variance"):
            if getattr(student, name) != getattr(self._described, name):
                raise ConfigError(
                    f"The teacher {self.config.source} has other {name} than the network; "
                    "imitation.source must be a network of the same anchors."
                )

    def targets(self, enlarged, images):
        """What the student should say.

        Args:
            enlarged: RGB [B, 2 S, 2 S, 3] in 0..255.
            images: the same at [B, S, S, 3].

        Returns:
            [B, A, 15] for the A anchors of the student: score in 0..1, corner box and five points, x
            before y, in pixels of `images`.
        """
        plain = self._opinion(self._ask(images), self._anchors)
        own = plain[..., 0]
        overlap, faces = self._compare(plain, plain)
        # What the best cell of a face says of it now.
        best = ops.max(ops.where(overlap >= _POOR, faces[:, None, :, 0], 0.0), axis=2)
        looks = [(overlap, faces)]
        for mirrored, scales in ((False, self.config.scales), (True, self.config.mirrored)):
            for scale in scales:
                looks.append(self._compare(plain, self.look(enlarged, scale, mirrored)))
        votes, places = 0.0, 0.0
        for overlap, faces in looks:
            well = ops.clip((overlap - _POOR) / (_GOOD - _POOR), 0.0, 1.0)
            vote = faces[:, None, :, 0] * well
            chosen = ops.take_along_axis(faces, ops.argmax(vote, axis=2)[..., None], axis=1)
            vote = ops.max(vote, axis=2)
            votes = votes + vote
            places = places + vote[..., None] * chosen[..., 1:]
        wanted = votes / len(looks)
        seen = wanted > 0
        moved = ops.sigmoid(_logit(own) + _logit(wanted) - _logit(ops.maximum(best, own)))
        told = ops.where(seen, moved, ops.minimum(own, _UNSEEN))
        places = places / ops.maximum(votes, 1e-9)[..., None]
        places = ops.where(seen[..., None], places, plain[..., 1:])
        return ops.stop_gradient(ops.concatenate([told[..., None], places], axis=-1))

    def look(self, enlarged, scale: float, mirrored: bool):
        """What the teacher sees at another size: [B, N, 15] as `targets`, in pixels of the plain size."""
        stride = self._described.max_stride
        side = stride * max(1, round(scale * self._size / stride))
        view = ops.cast(enlarged, "float32")
        if side != ENLARGED * self._size:
            view = ops.image.resize(view, (side, side), antialias=True)
        if mirrored:
            view = ops.flip(view, axis=2)
        anchors = generate_anchors(self._described.levels, side, side)
        found = self._opinion(self._ask(view), anchors)
        places = found[..., 1:] * (self._size / side)
        if mirrored:
            places = _mirror(places, self._size)
        return ops.concatenate([found[..., :1], places], axis=-1)

    def _compare(self, plain, opinion):
        """IoU [B, A, K] of all cells with the surest boxes of an opinion, and those [B, K, 15]."""
        _, surest = ops.top_k(opinion[..., 0], min(_FACES, opinion.shape[1]))
        faces = ops.take_along_axis(opinion, surest[..., None], axis=1)
        return pairwise_iou(plain[..., 1:5], faces[..., 1:5]), faces

    def sums(self, outputs: dict, targets) -> tuple[dict, object]:
        """The loss of each image, summed over cells.

        Args:
            outputs: the student's, for `images`.
            targets: of `targets`.

        Returns:
            The weighted terms by name, [B] each, and what they are to be divided by, summed over the
            batch: the scores that were told, [B].
        """
        found = self._opinion(outputs, self._anchors, logits=True)
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

    def _opinion(self, outputs: dict, anchors: np.ndarray, logits: bool = False):
        """[B, A, 15]: score or its logit, box and points in the image's pixels."""
        config = self._described
        outputs = {name: ops.cast(value, "float32") for name, value in outputs.items()}
        logit = outputs["class_logits"][..., 1] - outputs["class_logits"][..., 0]
        deltas = ops.clip(outputs["box_deltas"], -_WILDEST, _WILDEST)
        variances = config.center_variance, config.size_variance
        boxes = decode_boxes(deltas, ops.convert_to_tensor(anchors), *variances)
        center, size = np.tile(anchors[:, :2], 5), np.tile(anchors[:, 2:], 5)
        points = center + outputs["landmark_deltas"] * config.center_variance * size
        score = logit if logits else ops.sigmoid(logit)
        return ops.concatenate([score[..., None], boxes, points], axis=-1)


def shrink(enlarged):
    """Images [B, 2 S, 2 S, 3] -> float32 [B, S, S, 3], the means of 2x2 pixels."""
    return ops.average_pool(ops.cast(enlarged, "float32"), ENLARGED, ENLARGED)


def _mirror(places, width: float):
    """Boxes and points [..., 14] of a mirror image as they lie in the image."""
    x1, y1, x2, y2 = (places[..., i] for i in range(4))
    boxes = ops.stack([width - x2, y1, width - x1, y2], axis=-1)
    points = [places[..., 4 + 2 * i : 6 + 2 * i] for i in MIRRORED_POINTS]
    points = [ops.stack([width - p[..., 0], p[..., 1]], axis=-1) for p in points]
    return ops.concatenate([boxes, *points], axis=-1)


def _logit(score):
    score = ops.clip(score, 1e-4, 1 - 1e-4)
    return ops.log(score) - ops.log(1 - score)


def _side(opinion):
    """sqrt(W * H) of the boxes in [..., 15]."""
    sides = opinion[..., 3:5] - opinion[..., 1:3]
    return ops.sqrt(ops.maximum(sides[..., 0] * sides[..., 1], 1e-6))
