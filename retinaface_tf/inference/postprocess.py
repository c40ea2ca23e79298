"""The network's outputs read as faces, in numpy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from retinaface_tf.config import DetectionSettings, RetinaFaceConfig
from retinaface_tf.errors import WeightsError
from retinaface_tf.faces.faces import Faces
from retinaface_tf.geometry.anchors import generate_anchors
from retinaface_tf.geometry.box_coding import decode_boxes, decode_points
from retinaface_tf.geometry.boxes import clip_boxes
from retinaface_tf.geometry.nms import non_max_suppression
from retinaface_tf.inference.preprocess import Prepared
from retinaface_tf.inference.runtimes.runtime import DenseOutputs, RawOutputs
from retinaface_tf.layers.dense_frames import vertices_of_faces


def suppressed(passes: Sequence[Faces], iou: float) -> Faces:
    """The faces of several searches of one image as one: the best of those that overlap by more than `iou`."""
    names = ["boxes", "scores", "landmarks"] + ["vertices"] * (passes[0].vertices is not None)
    values = {name: np.concatenate([getattr(faces, name) for faces in passes]) for name in names}
    kept = non_max_suppression(values["boxes"], values["scores"], iou)
    return Faces(
        **{name: value[kept] for name, value in values.items()}, image_size=passes[0].image_size
    )


def read_faces(
    outputs: RawOutputs | DenseOutputs,
    index: int,
    network_size: tuple[int, int],
    prepared: Prepared,
    config: RetinaFaceConfig,
    settings: DetectionSettings,
    *,
    dense_weights: dict[str, np.ndarray] | None = None,
) -> Faces:
    """The faces of one image of a batch.

    Only anchors at or above the threshold are decoded, so the cost follows the number of faces,
    not of anchors.

    Args:
        outputs: of the network.
        index: the image's place in the batch.
        network_size: (height, width) the network was given, padding included.
        prepared: the image's scale and original size.
        config: the network's anchors and variances.
        settings: `threshold`, `iou` and `max_faces` count here.
        dense_weights: of the dense head, which gives each kept face its vertices; None without.

    Returns:
        `Faces` in pixels of the original image, boxes inside it.

    Raises:
        WeightsError: the network's scores are not numbers.
    """
    scores = outputs.scores[index]
    candidates = np.flatnonzero(scores >= settings.threshold)
    if not len(candidates):
        if np.isnan(scores).any():
            raise WeightsError(
                "The network's scores are not numbers (NaN): its weights are damaged."
            )
        return Faces.empty(prepared.original_size, config.dense.vertices if config.dense else None)
    anchors = generate_anchors(config.levels, *network_size)[candidates]
    scores = scores[candidates]
    # A wild delta may overflow to infinity; clipping then makes it the image's edge.
    with np.errstate(over="ignore"):
        deltas, variances = (
            outputs.box_deltas[index],
            (config.center_variance, config.size_variance),
        )
        boxes = decode_boxes(deltas[candidates], anchors, *variances)
    boxes = clip_boxes(boxes, *prepared.pixels.shape[:2])
    # Nothing is left of a box that lay in the padding.
    inside = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    boxes, scores, anchors, candidates = (
        values[inside] for values in (boxes, scores, anchors, candidates)
    )
    kept = non_max_suppression(boxes, scores, settings.iou, settings.max_faces)
    landmarks = decode_points(
        outputs.landmark_deltas[index][candidates[kept]].reshape(-1, 5, 2),
        anchors[kept],
        config.center_variance,
    )
    scale, origin = (np.asarray(v, np.float32) for v in (prepared.scale, prepared.origin))
    boxes = boxes[kept]
    vertices = None
    if dense_weights is not None and isinstance(outputs, DenseOutputs):
        vertices = vertices_of_faces(
            [maps[index : index + 1] for maps in outputs.features],
            np.zeros(len(kept), np.int64),
            candidates[kept],
            generate_anchors(config.levels, *network_size),
            boxes,
            landmarks,
            network_size,
            dense_weights,
            config,
        )
        # Depth is scaled as the image's sides are; their two scales differ by rounding only.
        vertices = vertices / np.append(scale, scale.mean()) + np.append(origin, 0)
    boxes = boxes / np.tile(scale, 2) + np.tile(origin, 2)
    return Faces(
        boxes=clip_boxes(boxes, *prepared.original_size).astype(np.float32),
        scores=scores[kept].astype(np.float32),
        landmarks=(landmarks / scale + origin).astype(np.float32),
        image_size=prepared.original_size,
        vertices=None if vertices is None else vertices.astype(np.float32),
    )
