"""From the faces of a picture to what every anchor shall predict, in the graph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.errors import ConfigError
from retinaface_tf.geometry.coding import encode_boxes, encode_points
from retinaface_tf.geometry.matching import POSITIVE, match_anchors

# Up to so many faces all anchors are matched at once; else so many anchors at a time.
_FEW_FACES, _CHUNK = 12, 2048


@dataclass(frozen=True, kw_only=True)
class MatchConfig:
    """Thresholds of the IoU between anchor and face: positive above, negative below."""

    positive_threshold: float = 0.5
    negative_threshold: float = 0.3

    def __post_init__(self):
        if not 0 < self.negative_threshold <= self.positive_threshold < 1:
            raise ConfigError(
                f"match thresholds {self.negative_threshold} (negative) and "
                f"{self.positive_threshold} (positive) must rise within 0..1."
            )


def encode_targets(
    boxes, landmarks, ignored, anchors: np.ndarray, config: RetinaFaceConfig, match: MatchConfig
) -> dict[str, tf.Tensor]:
    """Anchor targets of one picture.

    Args:
        boxes: float32 [F, 4] corners in pixels.
        landmarks: float32 [F, 5, 2] in pixels, NaN where unlabelled.
        ignored: bool [F].
        anchors: float32 [A, 4] cx, cy, w, h.
        config: whose variances the codes have.
        match: thresholds.

    Returns:
        "labels" int32 [A], "box_deltas" float32 [A, 4], "landmark_deltas" [A, 10] and
        "landmark_mask" [A, 5]; zeros where an anchor is not positive or a point is unlabelled.
    """

    def find(chunk: int):
        # Double precision: thresholds and ties then come out as in exact arithmetic.
        return match_anchors(
            anchors,
            tf.cast(boxes, tf.float64),
            ignored,
            positive_threshold=match.positive_threshold,
            negative_threshold=match.negative_threshold,
            chunk=chunk,
        )

    # A few faces need no chunks, and then no loop in the graph.
    few = tf.shape(boxes)[0] <= _FEW_FACES
    match_result = tf.cond(few, lambda: find(len(anchors)), lambda: find(_CHUNK))
    labels = tf.cast(match_result.labels, tf.int32)
    # Only the few positive anchors have codes to compute.
    places = tf.where(tf.equal(labels, POSITIVE))
    faces = tf.gather(match_result.faces, places[:, 0])
    positive_anchors = tf.gather(anchors, places[:, 0])
    codes = encode_boxes(
        tf.gather(boxes, faces), positive_anchors, config.center_variance, config.size_variance
    )
    points = encode_points(tf.gather(landmarks, faces), positive_anchors, config.center_variance)
    known = tf.reduce_all(tf.math.is_finite(points), axis=-1)
    points = tf.where(known[..., None], points, 0.0)
    count = len(anchors)
    return {
        "labels": labels,
        "box_deltas": tf.scatter_nd(places, codes, [count, 4]),
        "landmark_deltas": tf.scatter_nd(places, tf.reshape(points, [-1, 10]), [count, 10]),
        "landmark_mask": tf.scatter_nd(places, tf.cast(known, tf.float32), [count, 5]),
    }
