"""`postprocess` as `keras.ops`, for exported graphs: fixed shapes, batch first."""

from __future__ import annotations

from typing import Any, NamedTuple

from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.geometry.box_coding import decode_boxes, decode_points
from retinaface_tf.geometry.boxes import clip_boxes
from retinaface_tf.geometry.nms import non_max_suppression_in_graph
from retinaface_tf.layers.dense_frames import (
    dense_vertices,
    sampling_table,
    slots_of_anchors,
    stacked_cells,
)


class FaceTensors(NamedTuple):
    """Faces of a batch, best score first, zeros behind the last.

    Attributes:
        boxes: float32 [B, K, 4] x1, y1, x2, y2 in pixels of the network's input, inside it.
        scores: float32 [B, K], descending.
        landmarks: float32 [B, K, 5, 2] pixels.
        count: int32 [B], faces found.
        anchors: int32 [B, K], the anchor each face came from.
    """

    boxes: Any
    scores: Any
    landmarks: Any
    count: Any
    anchors: Any


def read_faces_in_graph(
    scores,
    box_deltas,
    landmark_deltas,
    anchors,
    sizes,
    config: RetinaFaceConfig,
    *,
    threshold: float = 0.5,
    iou: float = 0.4,
    max_faces: int = 100,
    top_k: int = 1000,
) -> FaceTensors:
    """Decodes, clips and suppresses, each image by itself.

    Equal to `postprocess.read_faces` as long as no more than `top_k` anchors of an image reach
    the threshold; beyond that the weakest of them take no part.

    Args:
        scores, box_deltas, landmark_deltas: the network's outputs, [B, N], [B, N, 4], [B, N, 10].
        anchors: float32 [N, 4] of `generate_anchors` or `generate_anchors_in_graph`.
        sizes: float32 [B, 2] (height, width) of each image within the network's input.
        config: variances.
        threshold: least score.
        iou: suppression threshold.
        max_faces: K.
        top_k: candidates that suppression compares, at least `max_faces`.

    Returns:
        `FaceTensors`.
    """
    from keras import ops

    top_k = max(top_k, max_faces)
    batch = ops.shape(scores)[0]
    # Filling, so that small images have top_k candidates too; its score is never above zero.
    scores = ops.concatenate([scores, ops.zeros((batch, top_k), scores.dtype)], axis=1)
    scores = ops.where(scores >= threshold, scores, ops.zeros_like(scores))
    best, picked = ops.top_k(scores, k=top_k, sorted=True)
    picked = ops.where(best > 0, picked, ops.zeros_like(picked))

    table = ops.take(ops.convert_to_tensor(anchors), picked, axis=0)
    boxes = decode_boxes(
        ops.take_along_axis(box_deltas, picked[..., None], axis=1),
        table,
        config.center_variance,
        config.size_variance,
    )
    boxes = clip_boxes(boxes, sizes[:, None, None, 0], sizes[:, None, None, 1])
    inside = ops.logical_and(boxes[..., 2] > boxes[..., 0], boxes[..., 3] > boxes[..., 1])
    best = ops.where(inside, best, ops.zeros_like(best))
    kept, valid = non_max_suppression_in_graph(boxes, best, iou, max_faces)

    def gather(values):
        index = ops.reshape(kept, (batch, max_faces) + (1,) * (len(values.shape) - 2))
        values = ops.take_along_axis(values, index, axis=1)
        mask = ops.reshape(valid, ops.shape(index))
        return ops.where(mask, values, ops.zeros_like(values))

    landmark_deltas = ops.take_along_axis(landmark_deltas, picked[..., None], axis=1)
    landmarks = decode_points(
        ops.reshape(landmark_deltas, (batch, top_k, 5, 2)), table, config.center_variance
    )
    return FaceTensors(
        boxes=gather(boxes),
        scores=gather(best),
        landmarks=gather(landmarks),
        count=ops.sum(ops.cast(valid, "int32"), axis=1),
        anchors=gather(picked),
    )


def read_vertices_in_graph(faces: FaceTensors, outputs: dict, network, anchors, height, width):
    """Vertices of the faces `read_faces_in_graph` found.

    Args:
        faces: its answer.
        outputs: the network's, with its feature maps.
        network: a `RetinaFaceNetwork` with a dense head.
        anchors: float32 [N, 4] of this input's size.
        height, width: of the input in pixels.

    Returns:
        float32 [B, K, V, 3] in pixels of the network's input; zeros behind the last face.
    """
    from keras import ops

    config = network.config
    maps = [outputs[f"features_{level.stride}"] for level in config.dense_levels]
    batch = ops.shape(maps[0])[0]
    count = faces.anchors.shape[1]
    numbers = ops.reshape(faces.anchors, (-1,))
    image = ops.repeat(ops.arange(batch, dtype="int32"), count)
    vertices = dense_vertices(
        stacked_cells(maps),
        image,
        ops.take(ops.convert_to_tensor(anchors), numbers, axis=0),
        slots_of_anchors(config, height, width, numbers),
        ops.reshape(faces.boxes, (-1, 4)),
        ops.reshape(faces.landmarks, (-1, 5, 2)),
        sampling_table(config, height, width),
        {name: ops.convert_to_tensor(w) for name, w in network.dense_head.named_weights.items()},
        config,
    )
    vertices = ops.reshape(vertices, (batch, count, config.dense.vertices, 3))
    return ops.where((faces.scores > 0)[:, :, None, None], vertices, ops.zeros_like(vertices))
