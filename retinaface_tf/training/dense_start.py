"""Where the dense head of a fresh network begins: at the faces of the run's own first batches."""

from __future__ import annotations

import numpy as np

from retinaface_tf.data.pipeline import TrainingPipeline
from retinaface_tf.geometry.box_coding import decode_boxes
from retinaface_tf.layers.dense_frames import (
    CoordinateFrames,
    anchor_frames,
    face_frames,
    to_frames,
)
from retinaface_tf.losses.positives import choose_positives, rows_of_anchors
from retinaface_tf.mesh.landmarks import five_of_vertices
from retinaface_tf.models import RetinaFaceNetwork
from retinaface_tf.training.train_dense_head import begin_at_principal_directions

# Positives that are used, in all and of each image.
_POSITIVES, _OF_IMAGE = 1000, 4


def begin_dense_head(network: RetinaFaceNetwork, pipeline: TrainingPipeline) -> None:
    """Starts the head at the mean of its targets, and at the directions in which they vary.

    A function of the run's seed alone, so it is the same in every process. Where an epoch shows no
    face with a mesh the head stays as it is.
    """
    targets, points = [], []
    for batch in pipeline.epoch(0):
        frames, vertices = _faces(batch, network, pipeline.anchors)
        if frames.points is not None:
            points.append(frames.points)
        targets.append(to_frames(vertices, frames))
        if sum(map(len, targets)) >= _POSITIVES:
            break
    if not sum(map(len, targets)):
        return
    begin_at_principal_directions(
        network.dense_head,
        np.concatenate(targets),
        np.concatenate(points) if points else None,
        pipeline.topology,
    )


def _faces(
    batch, network: RetinaFaceNetwork, anchors: np.ndarray
) -> tuple[CoordinateFrames, np.ndarray]:
    """The frames a perfect detector would give some positives, and their vertices in pixels."""
    config = network.config
    rows = rows_of_anchors(batch["faces"], batch["meshes"])
    chosen = choose_positives(rows >= 0, _OF_IMAGE)
    vertices = chosen.take(batch["vertices"], chosen.take(rows)).numpy()
    own = anchors[chosen.anchor.numpy()]
    if config.dense.frame == "anchor":
        return anchor_frames(own), vertices
    deltas = chosen.take(batch["box_deltas"]).numpy()
    boxes = decode_boxes(deltas, own, config.center_variance, config.size_variance)
    return face_frames(boxes, five_of_vertices(vertices)[..., :2]), vertices
