"""`postprocess` as `keras.ops`, for exported graphs: a fixed number of faces, batch first."""

from collections.abc import Callable
from typing import Any, NamedTuple

from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.geometry.box_coding import decode_boxes, decode_points
from retinaface_tf.geometry.boxes import clip_boxes
from retinaface_tf.geometry.nms import non_max_suppression_in_graph
from retinaface_tf.modelfile.metadata import Suppression


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
    outputs: dict[str, Any],
    anchors,
    sizes,
    config: RetinaFaceConfig,
    settings: Suppression,
    *,
    top_k: Any = 1000,
    suppress: Callable = non_max_suppression_in_graph,
) -> FaceTensors:
    """Decodes, clips and suppresses, each image by itself.

    Equal to `postprocess.read_faces` as long as no more than `top_k` anchors of an image reach
    the threshold; beyond that the weakest of them take no part.

    Args:
        outputs: "scores" [B, N], "box_deltas" [B, N, 4] and "landmark_deltas" [B, N, 10] of
            `models.read_heads.raw_heads`.
        anchors: float32 [N, 4] of `generate_anchors` or `generate_anchors_in_graph`.
        sizes: float32 [B, 2] (height, width) of each image within the network's input.
        config: variances.
        settings: threshold, IoU, and K faces; where those are None K is `top_k`.
        top_k: candidates of an image: a number, or an int32 scalar tensor from 1 to N.
        suppress: as `geometry.nms.non_max_suppression_in_graph`, which works on every backend and
            compares all pairs.
    """
    from keras import ops

    scores, faces = outputs["scores"], settings.max_faces
    batch = ops.shape(scores)[0]
    if isinstance(top_k, int):
        top_k = max(top_k, faces or 1)
        # Filling, so that small images have top_k candidates too; its score is never above zero.
        scores = ops.concatenate([scores, ops.zeros((batch, top_k), scores.dtype)], axis=1)
    scores = ops.where(scores >= settings.threshold, scores, ops.zeros_like(scores))
    faces = top_k if faces is None else faces
    best, picked = ops.top_k(scores, k=top_k, sorted=True)
    picked = ops.where(best > 0, picked, ops.zeros_like(picked))
    anchors = ops.convert_to_tensor(anchors)
    deltas, own = _entries(outputs["box_deltas"], picked), ops.take(anchors, picked, axis=0)
    best, boxes = decode_in_graph(best, deltas, own, sizes, config)
    kept, valid = suppress(boxes, best, settings.iou, faces)

    def found(values):
        shape = (batch, faces) + (1,) * (len(values.shape) - 2)
        return ops.where(ops.reshape(valid, shape), values, ops.zeros_like(values))

    numbers = found(_entries(picked, kept))
    deltas = _entries(outputs["landmark_deltas"], numbers)
    landmarks = decode_points(
        ops.reshape(deltas, (batch, faces, 5, 2)),
        ops.take(anchors, numbers, axis=0),
        config.center_variance,
    )
    return FaceTensors(
        boxes=found(_entries(boxes, kept)),
        scores=found(_entries(best, kept)),
        landmarks=found(landmarks),
        count=ops.sum(ops.cast(valid, "int32"), axis=1),
        anchors=numbers,
    )


def _entries(values, numbers):
    """[B, M, ...], each image's own entries of [B, N, ...] by their numbers [B, M].

    One lookup in all images' entries: `take_along_axis` transposes whole tables on TensorFlow.
    """
    from keras import ops

    batch, count = ops.shape(values)[:2]
    first = count * ops.arange(batch, dtype="int32")[:, None]
    values = ops.reshape(values, (-1, *values.shape[2:]))
    return ops.take(values, ops.cast(numbers, "int32") + first, axis=0)


def decode_in_graph(scores, box_deltas, anchors, sizes, config: RetinaFaceConfig):
    """Boxes of M anchors, before suppression.

    Args:
        scores, box_deltas: [B, M] and [B, M, 4].
        anchors: [M, 4] or [B, M, 4].
        sizes: float32 [B, 2] (height, width) of each image within the network's input.
        config: variances.

    Returns:
        Scores [B, M], 0 where nothing of the box lies inside the image, and boxes [B, M, 4],
        clipped to the image.
    """
    from keras import ops

    boxes = decode_boxes(box_deltas, anchors, config.center_variance, config.size_variance)
    boxes = clip_boxes(boxes, sizes[:, None, None, 0], sizes[:, None, None, 1])
    inside = ops.logical_and(boxes[..., 2] > boxes[..., 0], boxes[..., 3] > boxes[..., 1])
    return ops.where(inside, scores, ops.zeros_like(scores)), boxes
