"""From the faces of an image to what every anchor shall predict, in the graph."""

import numpy as np
import tensorflow as tf

from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.data.options import MatchConfig
from retinaface_tf.geometry.box_coding import encode_boxes, encode_points
from retinaface_tf.geometry.boxes import center_to_corners, pairwise_iou
from retinaface_tf.geometry.matching import IGNORED, POSITIVE, match_anchors

# Up to this many faces all anchors are matched at once; else this many anchors at a time.
_FEW_FACES, _CHUNK = 12, 2048


def encode_targets(
    boxes,
    landmarks,
    ignored,
    anchors: np.ndarray,
    config: RetinaFaceConfig,
    match: MatchConfig,
    refined=None,
    *,
    scores=None,
) -> dict[str, tf.Tensor]:
    """Anchor targets of one image.

    Args:
        boxes: float32 [F, 4] corners in pixels.
        landmarks: float32 [F, 5, 2] in pixels, NaN where unlabelled.
        ignored: bool [F].
        anchors: float32 [A, 4] cx, cy, w, h.
        config: whose variances the deltas have.
        refined: float32 [A, 4] cx, cy, w, h, what the network, or a cascade's first stage, made of
            the anchors: these are then matched, a cascade's with the second stage's thresholds;
            deltas are for the anchors.
        scores: float32 [F], how sure a teacher was of each face, NaN where unknown; None asks for no
            "soft_targets".

    Returns:
        "labels" int32 [A], "box_deltas" float32 [A, 4], "landmark_deltas" [A, 10] and
        "landmark_mask" [A, 5]; zeros where an anchor is not positive or a point is unlabelled.
        "faces" int32 [A], which face a positive anchor is for; -1 for others. With scores also
        "soft_targets" float32 [A], the probability that an anchor shows a face. Of a positive anchor it
        is the score of its face, 1 where unknown; with dynamic matching times the IoU, so that the best
        placed box ranks first (Li et al. 2020, "Generalized focal loss"). Of an ignored anchor that
        would be positive for an uncertain face (ignored, with a score) alone, it is that face's score.
        Of others it is 0.
    """
    if config.cascade and refined is not None:
        negative_threshold, positive_threshold = match.refined_thresholds
    else:
        negative_threshold, positive_threshold = match.thresholds(config.cascade)

    def match_faces(boxes, ignored):
        def find(chunk: int):
            # Double precision: thresholds and ties then come out as in exact arithmetic.
            return match_anchors(
                anchors if refined is None else refined,
                tf.cast(boxes, tf.float64),
                ignored,
                positive_threshold=positive_threshold,
                negative_threshold=negative_threshold,
                chunk=chunk,
            )

        # A few faces need no chunks, and then no loop in the graph.
        few = tf.shape(boxes)[0] <= _FEW_FACES
        found = tf.cond(few, lambda: find(len(anchors)), lambda: find(_CHUNK))
        return tf.cast(found.labels, tf.int32), tf.cast(found.faces, tf.int32)

    labels, matched = match_faces(boxes, ignored)
    if match.per_face:
        places = anchors if refined is None else refined
        labels = _keep_best(labels, matched, boxes, places, match.per_face)
    # Only the few positive anchors have deltas to compute.
    places = tf.where(tf.equal(labels, POSITIVE))
    faces = tf.gather(matched, places[:, 0])
    positive_anchors = tf.gather(anchors, places[:, 0])
    deltas = encode_boxes(
        tf.gather(boxes, faces), positive_anchors, config.center_variance, config.size_variance
    )
    points = encode_points(tf.gather(landmarks, faces), positive_anchors, config.center_variance)
    known = tf.reduce_all(tf.math.is_finite(points), axis=-1)
    points = tf.where(known[..., None], points, 0.0)
    count = len(anchors)
    targets = {
        "labels": labels,
        "faces": tf.where(tf.equal(labels, POSITIVE), matched, -1),
        "box_deltas": tf.scatter_nd(places, deltas, [count, 4]),
        "landmark_deltas": tf.scatter_nd(places, tf.reshape(points, [-1, 10]), [count, 10]),
        "landmark_mask": tf.scatter_nd(places, tf.cast(known, tf.float32), [count, 5]),
    }
    if scores is None:
        return targets

    def of_uncertain_faces():
        mine = tf.boolean_mask(scores, uncertain)
        alone, face = match_faces(tf.boolean_mask(boxes, uncertain), tf.zeros_like(mine, tf.bool))
        would = tf.equal(alone, POSITIVE) & tf.equal(labels, IGNORED)
        return tf.where(would, tf.gather(mine, face), 0.0)

    uncertain = tf.cast(ignored, tf.bool) & tf.math.is_finite(scores)
    soft = tf.cond(tf.reduce_any(uncertain), of_uncertain_faces, lambda: tf.zeros([count]))
    sure = tf.where(tf.math.is_finite(scores), scores, 1.0)
    sure = tf.gather(sure, faces)
    if match.dynamic and refined is not None:
        sure *= tf.cast(_overlaps(places[:, 0], faces, boxes, refined), tf.float32)
    of_learnt = tf.scatter_nd(places, sure, [count])
    return targets | {"soft_targets": tf.where(tf.equal(labels, POSITIVE), of_learnt, soft)}


def _overlaps(places, faces, boxes, anchors):
    """IoU [P] of the anchors at `places` with the faces they are for."""
    mine = center_to_corners(tf.gather(anchors, places))
    return pairwise_iou(mine[:, None], tf.gather(boxes, faces)[:, None])[:, 0, 0]


def _keep_best(labels, matched, boxes, anchors, limit: int):
    """Labels with at most `limit` positives a face, those of the largest IoU; others are ignored."""
    places = tf.where(tf.equal(labels, POSITIVE))[:, 0]
    faces = tf.gather(matched, places)
    overlaps = _overlaps(places, faces, boxes, anchors)
    # Face after face, the best first; IoU is at most 1.
    order = tf.argsort(2.0 * tf.cast(faces, tf.float32) - tf.cast(overlaps, tf.float32))
    faces = tf.gather(faces, order)
    rank = tf.range(tf.size(faces)) - tf.searchsorted(faces, faces)
    dropped = tf.gather(places, tf.boolean_mask(order, rank >= limit))
    return tf.tensor_scatter_nd_update(
        labels, dropped[:, None], tf.fill(tf.shape(dropped), tf.constant(IGNORED, labels.dtype))
    )
