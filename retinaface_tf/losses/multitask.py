"""The terms of one stage: class, box and landmark losses (1905.00641, equation 1); `objective` has the whole.

Everything here is a sum for each image; `losses.objective` divides by the positives of the whole
global batch, so that the loss does not depend on how a batch is spread over devices.
"""

from typing import NamedTuple

import numpy as np
from keras import backend, ops

from retinaface_tf.geometry.box_coding import decode_boxes
from retinaface_tf.geometry.boxes import corners_to_center, iou
from retinaface_tf.geometry.matching import NEGATIVE, POSITIVE
from retinaface_tf.losses.config import LossConfig


class LossSums(NamedTuple):
    """Unweighted sums of each image, float32 [B] each (float64 for a network of that type).

    Attributes:
        class_sum, box_sum, landmark_sum: of the three terms; no landmarks for a stage without them.
        positives: number of positive anchors.
    """

    class_sum: object
    box_sum: object
    landmark_sum: object
    positives: object


def multitask_sums(
    outputs: dict, targets: dict, anchors, config: LossConfig, variances, *, face_units=False
) -> LossSums:
    """The loss terms of each image, summed over its anchors.

    Args:
        outputs: the network's "class_logits" [B, A, 2], "box_deltas" [B, A, 4] and
            "landmark_deltas" [B, A, 10], which a cascade's first stage does not have.
        targets: "labels" int32 [B, A] (`geometry.matching`), "box_deltas" [B, A, 4],
            "landmark_deltas" [B, A, 10] and "landmark_mask" [B, A, 5] (0 where unlabelled).
            Entries of anchors that are not positive may hold anything finite. With
            `config.score_targets` also "soft_targets" [B, A], the probability of a face for positive
            anchors and for those of uncertain faces, 0 for others.
        anchors: [A, 4] cx, cy, w, h; used by the IoU losses only.
        variances: (center, size), as in `RetinaFaceConfig`.
        face_units: distances count in sizes of the face instead of the anchor, for anchors that are
            much smaller than their faces: the points of a face of 100 pixels are some 60 deltas from
            an anchor of 8, and would outweigh everything else.
    """
    labels = targets["labels"]
    # Half precision would overflow in the sums; more than single is kept.
    double = backend.standardize_dtype(outputs["class_logits"].dtype) == "float64"
    dtype = "float64" if double else "float32"
    outputs = {name: ops.cast(value, dtype) for name, value in outputs.items()}
    soft = ("soft_targets",) if config.score_targets else ()
    names = ("box_deltas", "landmark_deltas", "landmark_mask", *soft)
    targets = {name: ops.cast(targets[name], dtype) for name in names}
    anchors = ops.cast(anchors, dtype)
    positive = ops.cast(ops.equal(labels, POSITIVE), dtype)
    negative = ops.cast(ops.equal(labels, NEGATIVE), dtype)
    logits = outputs["class_logits"]
    if config.classification == "ohem":
        class_sum = _ohem(logits, positive, negative, targets.get("soft_targets"), config)
    else:
        class_sum = _focal(logits, positive, negative, config)

    deltas = outputs["box_deltas"]
    if face_units:  # [B, A, 1] side of the anchor in sides of the face
        growth = ops.mean(targets["box_deltas"][..., 2:], axis=-1, keepdims=True)
        unit = ops.exp(-variances[1] * growth)
    if config.box == "smooth_l1":
        error = deltas - targets["box_deltas"]
        if face_units:
            error = ops.concatenate([unit * error[..., :2], error[..., 2:]], axis=-1)
        box = ops.sum(smooth_l1(error, config.smooth_l1_beta), axis=-1)
    else:
        # Deltas of anchors that are not positive are not decoded: their exponential could overflow.
        deltas = ops.where(positive[..., None] > 0, deltas, 0.0)
        box = iou_loss(
            decode_boxes(deltas, anchors, *variances),
            decode_boxes(targets["box_deltas"], anchors, *variances),
            complete=config.box == "ciou",
        )
    box_sum = ops.sum(positive * box, axis=1)

    landmark_sum = None
    if "landmark_deltas" in outputs:
        error = outputs["landmark_deltas"] - targets["landmark_deltas"]
        error = unit * error if face_units else error
        mask = ops.repeat(targets["landmark_mask"], 2, axis=-1)
        points = ops.sum(mask * smooth_l1(error, config.smooth_l1_beta), axis=-1)
        landmark_sum = ops.sum(positive * points, axis=1)
    return LossSums(class_sum, box_sum, landmark_sum, ops.sum(positive, axis=1))


def limit_deltas(deltas):
    """Box deltas [..., 4] cut to where their exponential is a number.

    Wild deltas are then wild boxes, which overlap no face, and not infinite ones.
    """
    limit = np.float32([1e4, 1e4, 40, 40])
    return ops.clip(deltas, -limit, limit)


def cross_entropy(logits):
    """[..., 2] background and face logits -> losses (as background, as face), each [...]."""
    difference = logits[..., 1] - logits[..., 0]
    return ops.softplus(difference), ops.softplus(-difference)


def smooth_l1(error, beta: float):
    """Huber's loss over beta: 0.5 e^2 / beta below beta, |e| - beta / 2 above; any shape."""
    size = ops.abs(error)
    return ops.where(size < beta, 0.5 * size * size / beta, size - 0.5 * beta)


def iou_loss(boxes, target, *, complete: bool):
    """1 - DIoU, or 1 - CIoU when `complete` (Zheng et al. 2020), of corner boxes [..., 4] -> [...].

    Both boxes have a positive size.
    """
    center, other = corners_to_center(boxes), corners_to_center(target)
    size, other_size = center[..., 2:], other[..., 2:]
    overlap = iou(boxes, target)
    hull = ops.maximum(boxes[..., 2:], target[..., 2:]) - ops.minimum(
        boxes[..., :2], target[..., :2]
    )
    diagonal = ops.maximum(ops.sum(ops.square(hull), axis=-1), 1e-9)
    loss = 1 - overlap + ops.sum(ops.square(center[..., :2] - other[..., :2]), axis=-1) / diagonal
    if not complete:
        return loss
    angle = ops.arctan2(size[..., 0], size[..., 1])
    other_angle = ops.arctan2(other_size[..., 0], other_size[..., 1])
    aspect = (4 / 3.141592653589793**2) * ops.square(angle - other_angle)
    # The trade-off factor is a constant of the optimisation (the paper's section 3.3).
    alpha = ops.stop_gradient(aspect / ops.maximum(1 - overlap + aspect, 1e-9))
    return loss + alpha * aspect


def _ohem(logits, positive, negative, soft, config: LossConfig):
    as_background, as_face = cross_entropy(logits)
    wanted = ops.maximum(
        ops.floor(config.negatives_per_positive * ops.sum(positive, axis=1)),
        float(config.min_negatives),
    )
    wanted = ops.minimum(wanted, ops.sum(negative, axis=1))
    # The sum of the highest losses needs no indices; other anchors sort behind every negative.
    hardest = ops.flip(ops.sort(ops.where(negative > 0, as_background, -1.0), axis=1), axis=1)
    rank = ops.cast(ops.arange(ops.shape(hardest)[1]), hardest.dtype)
    chosen = ops.where(rank[None, :] < wanted[:, None], hardest, 0.0)
    faces = positive * as_face
    if soft is not None:
        mixed = soft * as_face + (1.0 - soft) * as_background
        faces = ops.where(ops.logical_or(positive > 0, soft > 0), mixed, 0.0)
    return ops.sum(faces, axis=1) + ops.sum(chosen, axis=1)


def _focal(logits, positive, negative, config: LossConfig):
    as_background, as_face = cross_entropy(logits)
    face = ops.sigmoid(logits[..., 1] - logits[..., 0])
    alpha, gamma = config.focal_alpha, config.focal_gamma
    losses = positive * alpha * (1 - face) ** gamma * as_face
    losses = losses + negative * (1 - alpha) * face**gamma * as_background
    return ops.sum(losses, axis=1)
