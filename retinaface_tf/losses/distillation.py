"""Distillation: a student learns from what a trained teacher predicts for several views of an image.

A detector that sees an image more than once, mirrored and at other sizes, and votes is much better than
with one view: mostly in small faces, which it finds once the image is enlarged, and in where boxes lie.
So the teacher predicts for several views of each crop, and a student with one view learns the votes:
distillation with soft targets (Hinton et al. 2015) in which the teacher has more views instead of more
layers (test-time augmentation distilled, as in Radosavovic et al. 2018, "Data distillation").

The student keeps the teacher's assignment of cells to faces: which cells detect a face is decided by the
plain view. Each cell's score is moved, as a logit, by as much as the face's best cell has to be moved to
the mean vote of the views. A view's vote for a cell is the score of a face there, times how well that
face's box fits the cell's: a high score with a poor box is a false alarm.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.errors import ConfigError
from retinaface_tf.faces.faces import MIRRORED_POINTS
from retinaface_tf.geometry.anchors import generate_anchors
from retinaface_tf.geometry.box_coding import decode_boxes, decode_points
from retinaface_tf.geometry.boxes import pairwise_iou
from retinaface_tf.losses.config import ENLARGED, DistillationConfig
from retinaface_tf.losses.multitask import iou_loss, limit_deltas, smooth_l1
from retinaface_tf.models import RetinaFaceNetwork

# Boxes of a view that are compared, those of the highest scores.
_FACES = 96
# IoU up to which a cell's box fits badly, and from which on it fits well.
_POOR, _GOOD = 0.3, 0.5
# Highest target score of a cell that is background by the labels.
_UNSEEN = 0.02
# Least score of the plain view for its box to count.
_SEEN = 0.1
# IoU from which on a cell's box may be a face of the labels.
_LABELLED = 0.1


class DistillationSums(NamedTuple):
    """Unweighted sums of each image, [B] each.

    Attributes:
        class_sum, box_sum, landmark_sum: of the three terms.
        feature_sum: see `DistillationConfig.features`; zeros without them.
        scores: of the teacher's targets, by which the terms are divided.
    """

    class_sum: object
    box_sum: object
    landmark_sum: object
    feature_sum: object
    scores: object


class Distillation:
    """The teacher, and how far a student is from its targets.

    Args:
        teacher: trained, with the anchors and variances of the student.
        size: side of the student's input in pixels.
    """

    def __init__(self, teacher: RetinaFaceNetwork, size: int, config: DistillationConfig):
        teacher.trainable = False
        self.config = config
        self._size, self._network = size, teacher.config
        self._teacher: Callable = lambda images: teacher(images, training=False)
        self._maps = None
        if config.features:
            maps = keras.Model(teacher.inputs, layer_maps(teacher, config.features))
            self._maps = lambda images: maps(images, training=False)
        self._anchors = generate_anchors(teacher.config.levels, size, size)

    def check(self, student: RetinaFaceConfig) -> None:
        """Raises `ConfigError` where a student's cells are not those of the teacher."""
        for name in ("levels", "center_variance", "size_variance"):
            if getattr(student, name) != getattr(self._network, name):
                raise ConfigError(
                    f"The teacher {self.config.source} has other {name} than the network; "
                    "distillation.source must be a network of the same anchors."
                )

    def targets(self, enlarged, images, labelled=None):
        """What the student should predict.

        Args:
            enlarged: RGB [B, 2 S, 2 S, 3] in 0..255, or [B, S, S, 3] where no view is larger.
            images: the same at [B, S, S, 3].
            labelled: [B, F, 4] corner boxes of all faces in the labels, in pixels of `images`, empty
                ones behind the last; read with `background` alone.

        Returns:
            [B, A, 15] for the A anchors of the student: score in 0..1, corner box and five points, x
            before y, in pixels of `images`.
        """
        plain = self._decode(self._teacher(images), self._anchors)
        own = plain[..., 0]
        overlap, faces = _compare(plain, plain)
        # The score of the best cell of each cell's face in the plain view.
        best = ops.max(ops.where(overlap >= _POOR, faces[:, None, :, 0], 0.0), axis=2)
        views = [(overlap, faces)]
        for mirrored, scales in ((False, self.config.scales), (True, self.config.mirrored)):
            for scale in scales:
                views.append(_compare(plain, self.view(enlarged, scale, mirrored)))
        votes, places = 0.0, 0.0
        for number, (overlap, faces) in enumerate(views):
            fit = ops.clip((overlap - _POOR) / (_GOOD - _POOR), 0.0, 1.0)
            vote = faces[:, None, :, 0] * fit
            chosen = ops.take_along_axis(faces, ops.argmax(vote, axis=2)[..., None], axis=1)
            vote, place = ops.max(vote, axis=2), chosen[..., 1:]
            if number == 0:
                # In a crowd a face may have none of its cells among the boxes that are compared.
                place = ops.where((own > vote)[..., None], plain[..., 1:], place)
                vote = ops.maximum(vote, own)
            votes = votes + vote
            places = places + vote[..., None] * place
        mean = votes / len(views)
        scores = ops.sigmoid(_logit(own) + _logit(mean) - _logit(ops.maximum(best, own)))
        if self.config.background:
            scores = ops.where(
                self._is_background(plain, labelled), ops.minimum(own, _UNSEEN), scores
            )
        places = places / ops.maximum(votes, 1e-9)[..., None]
        if self.config.boxes == "plain":
            boxes = ops.where(own[..., None] > _SEEN, plain[..., 1:5], places[..., :4])
            places = ops.concatenate([boxes, places[..., 4:]], axis=-1)
        return ops.stop_gradient(ops.concatenate([scores[..., None], places], axis=-1))

    def _is_background(self, plain, labelled):
        """Which cells [B, A] have no face whatever the teacher says: see `DistillationConfig.background`."""
        labelled = ops.cast(labelled, "float32")
        if self.config.background == "empty":
            empty = ops.all(labelled[..., 2] <= labelled[..., 0], axis=1)
            return ops.logical_and(empty[:, None], plain[..., 0] >= 0)
        return ops.max(pairwise_iou(plain[..., 1:5], labelled), axis=2) <= _LABELLED

    def view(self, enlarged, scale: float, mirrored: bool):
        """The teacher's predictions at another size, as `targets`: [B, N, 15], pixels of the plain size."""
        stride = self._network.max_stride
        side = stride * max(1, round(scale * self._size / stride))
        images = ops.cast(enlarged, "float32")
        if side != enlarged.shape[1]:
            images = ops.image.resize(images, (side, side), antialias=True)
        if mirrored:
            images = ops.flip(images, axis=2)
        anchors = generate_anchors(self._network.levels, side, side)
        predictions = self._decode(self._teacher(images), anchors)
        places = predictions[..., 1:] * (self._size / side)
        if mirrored:
            places = _mirror(places, self._size)
        return ops.concatenate([predictions[..., :1], places], axis=-1)

    def maps(self, images) -> dict:
        """The teacher's maps of `DistillationConfig.features`, by layer."""
        return self._maps(images) if self._maps else {}

    def sums(self, outputs: dict, targets, maps: Mapping = {}) -> DistillationSums:
        """The terms of each image, summed over its cells.

        Args:
            outputs: the student's, for `images`, with its maps by layer.
            targets: of `targets`.
            maps: of `maps`.
        """
        predictions = self._decode(outputs, self._anchors, logits=True)
        score = targets[..., 0]
        # The cross entropy less that of the teacher itself: 0 where the two agree.
        sure = ops.clip(score, 1e-5, 1 - 1e-5)
        logit = predictions[..., 0]
        entropy = sure * ops.log(sure) + (1 - sure) * ops.log(1 - sure)
        classes = sure * ops.softplus(-logit) + (1 - sure) * ops.softplus(logit) + entropy
        weight = ops.where(score > self.config.least_score, score, 0.0)
        counted = weight[..., None] > 0
        # Cells without a face are not compared: their boxes may be anything, infinite too.
        boxes = ops.where(counted, predictions[..., 1:5], targets[..., 1:5])
        points = ops.where(counted, predictions[..., 5:], targets[..., 5:])
        overlap = iou_loss(boxes, targets[..., 1:5], complete=True)
        error = (points - targets[..., 5:]) / _side(targets)[..., None]
        distance = ops.sum(smooth_l1(error, 0.1), axis=-1)
        values = (classes, weight * overlap, weight * distance)
        features = ops.zeros_like(score[:, 0])
        for name, theirs in maps.items():
            theirs, mine = ops.cast(theirs, "float32"), ops.cast(outputs[name], "float32")
            scale = ops.maximum(ops.mean(ops.square(theirs)), 1e-6) * len(maps)
            features += ops.mean(ops.square(mine - theirs), axis=(1, 2, 3)) / scale
        sums = (ops.sum(value, axis=1) for value in values)
        return DistillationSums(*sums, features, ops.sum(score, axis=1))

    def _decode(self, outputs: dict, anchors: np.ndarray, logits: bool = False):
        """[B, A, 15]: score or its logit, box and points in the image's pixels."""
        config = self._network
        outputs = {name: ops.cast(value, "float32") for name, value in outputs.items()}
        logit = outputs["class_logits"][..., 1] - outputs["class_logits"][..., 0]
        variances = config.center_variance, config.size_variance
        deltas = limit_deltas(outputs["box_deltas"])
        boxes = decode_boxes(deltas, ops.convert_to_tensor(anchors), *variances)
        points = ops.reshape(outputs["landmark_deltas"], (-1, len(anchors), 5, 2))
        points = decode_points(points, anchors, config.center_variance)
        score = logit if logits else ops.sigmoid(logit)
        points = ops.reshape(points, (-1, len(anchors), 10))
        return ops.concatenate([score[..., None], boxes, points], axis=-1)


def layer_maps(network: keras.Model, names: tuple[str, ...]) -> dict:
    """The outputs of layers, by name.

    Raises:
        ConfigError: the network has no such layer.
    """
    known = {layer.name: layer for layer in network.layers}
    for name in names:
        if name not in known:
            raise ConfigError(
                f"distillation.features has {name!r}, a layer that the network or its teacher lacks."
            )
    return {name: known[name].output for name in names}


def shrink(enlarged):
    """Images [B, 2 S, 2 S, 3] -> float32 [B, S, S, 3], the means of 2x2 pixels."""
    return ops.average_pool(ops.cast(enlarged, "float32"), ENLARGED, ENLARGED)


def _compare(plain, predictions):
    """IoU [B, A, K] of all cells with the K boxes of the highest scores, and those [B, K, 15]."""
    _, best = ops.top_k(predictions[..., 0], min(_FACES, predictions.shape[1]))
    faces = ops.take_along_axis(predictions, best[..., None], axis=1)
    return pairwise_iou(plain[..., 1:5], faces[..., 1:5]), faces


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


def _side(predictions):
    """sqrt(W * H) of the boxes in [..., 15]."""
    sides = predictions[..., 3:5] - predictions[..., 1:3]
    return ops.sqrt(ops.maximum(sides[..., 0] * sides[..., 1], 1e-6))
