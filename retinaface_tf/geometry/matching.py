"""Which anchor learns which face (arXiv 1905.00641, section 3.2; CVPR 2020 for the two stages).

The overlap of every anchor with every face would be 102,300 x 500 numbers for one crowded image,
so anchors are taken in chunks: memory is bounded by `chunk` x faces, whatever the table's length.
"""

from typing import NamedTuple

import numpy as np

from retinaface_tf.geometry.boxes import pairwise_iou_of_centers
from retinaface_tf.geometry.namespace import array_namespace, cast

POSITIVE, NEGATIVE, IGNORED = 1, 0, -1


class AnchorMatch(NamedTuple):
    """What every anchor learns.

    Attributes:
        labels: int32 [A], `POSITIVE`, `NEGATIVE` or `IGNORED`.
        faces: int32 [A], index of the face a positive anchor learns; 0 for all other anchors.
    """

    labels: np.ndarray
    faces: np.ndarray


def match_anchors(
    anchors,
    boxes,
    ignored,
    *,
    positive_threshold: float = 0.5,
    negative_threshold: float = 0.3,
    chunk: int = 2048,
) -> AnchorMatch:
    """Labels anchors by their overlap with the faces of one image.

    - An anchor is positive for the face it overlaps most when that IoU is above
      `positive_threshold`, negative when it is below `negative_threshold`, ignored between.
    - Every face keeps its best anchor, however low their IoU (but not 0). Where one anchor is
      the best of several faces, the face with the higher IoU has it.
    - A face marked `ignored` is not trained on: its best anchor, and anchors that overlap it by
      `negative_threshold` or more, are ignored instead of negative. A face smaller than the
      smallest anchor counts as that anchor's size here, since otherwise nothing overlaps it.
    - Faces without a positive, finite size do not take part.

    Equal overlaps go to the face, or the anchor, with the lower index. The arithmetic has the
    boxes' precision, and boxes that contain an anchor or are contained in it tie exactly.

    Args:
        anchors: [A, 4] cx, cy, w, h in pixels; A is known (static).
        boxes: [F, 4] corners x1, y1, x2, y2 in pixels; F may be 0.
        ignored: bool [F].
        positive_threshold, negative_threshold: of the IoU, 0..1; (0.7, 0.3) and (0.5, 0.4) for the
            two stages of the cascade, whose second one passes the refined boxes as anchors.
        chunk: anchors taken at a time.

    Returns:
        `AnchorMatch`, numpy for numpy arguments.
    """
    xp = array_namespace(anchors, boxes, ignored)
    if xp is np:
        boxes = np.asarray(boxes).reshape(-1, 4)
        if not np.issubdtype(boxes.dtype, np.floating):
            boxes = boxes.astype(np.float32)
        anchors, ignored = np.asarray(anchors, boxes.dtype), np.asarray(ignored, bool)
    else:
        boxes = xp.convert_to_tensor(boxes)
        anchors = xp.cast(anchors, boxes.dtype)
    faces, wanted, ignored = _prepare_faces(xp, anchors, boxes, ignored)

    count = int(anchors.shape[0])
    chunk = min(chunk, count)
    rows = -(-count // chunk)
    # Anchors of no size at the end fill the last chunk; they overlap nothing.
    filling = xp.zeros((rows * chunk - count, 4), dtype=boxes.dtype)
    anchors = xp.reshape(xp.concatenate([anchors, filling]), (rows, chunk, 4))

    def overlap(part):
        iou = pairwise_iou_of_centers(part, faces)
        wanted_iou = xp.where(wanted[None, :], iou, -1.0)
        ignored_iou = xp.max(xp.where(ignored[None, :], iou, -1.0), axis=1)
        return (
            xp.max(wanted_iou, axis=1),
            xp.argmax(wanted_iou, axis=1),
            ignored_iou,
            xp.max(iou, axis=0),
            xp.argmax(iou, axis=0),
        )

    if xp is np:
        stacked = [np.stack(values) for values in zip(*map(overlap, anchors))]
    else:
        stacked = xp.map(overlap, anchors)
    best_iou, best_face, ignored_iou = (xp.reshape(v, (-1,))[:count] for v in stacked[:3])
    per_face_iou, per_face_anchor = stacked[3:]
    row = xp.argmax(per_face_iou, axis=0)
    face_iou = xp.max(per_face_iou, axis=0)
    within = xp.take_along_axis(per_face_anchor, row[None, :], axis=0)[0]
    face_anchor = cast(xp, row, "int32") * chunk + cast(xp, within, "int32")

    kept_face = _keep_best_anchors(
        xp, count, face_anchor, xp.where(xp.logical_and(wanted, face_iou > 0), face_iou, -1.0)
    )
    spared_face = _keep_best_anchors(
        xp, count, face_anchor, xp.where(xp.logical_and(ignored, face_iou > 0), face_iou, -1.0)
    )
    kept = kept_face >= 0
    positive = xp.logical_or(best_iou > positive_threshold, kept)
    unclear = xp.logical_or(
        best_iou >= negative_threshold,
        xp.logical_or(ignored_iou >= negative_threshold, spared_face >= 0),
    )
    labels = xp.where(positive, POSITIVE, xp.where(unclear, IGNORED, NEGATIVE))
    matched = xp.where(kept, kept_face, cast(xp, best_face, "int32"))
    matched = xp.where(positive, matched, 0)
    return AnchorMatch(cast(xp, labels, "int32"), cast(xp, matched, "int32"))


def _prepare_faces(xp, anchors, boxes, ignored):
    """Faces as centre and size with one empty face at the end, and which are trained on or ignored."""
    size = boxes[:, 2:] - boxes[:, :2]
    finite = xp.all(xp.isfinite(boxes), axis=1)
    usable = xp.logical_and(finite, xp.all(size > 0, axis=1))
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    grown = xp.maximum(size, xp.min(anchors[:, 2:], axis=0)[None, :])
    size = xp.where(xp.logical_and(ignored, usable)[:, None], grown, size)
    faces = xp.where(usable[:, None], xp.concatenate([center, size], axis=1), 0.0)
    # argmax needs at least one column.
    faces = xp.concatenate([faces, xp.zeros((1, 4), dtype=boxes.dtype)])
    nobody = xp.zeros((1,), dtype="bool")
    wanted = xp.concatenate([xp.logical_and(usable, xp.logical_not(ignored)), nobody])
    return faces, wanted, xp.concatenate([xp.logical_and(usable, ignored), nobody])


def _keep_best_anchors(xp, count: int, face_anchor, face_iou):
    """int32 [A]: the face that keeps this anchor as its best, -1 where none does.

    Args:
        face_anchor: int32 [F], each face's best anchor.
        face_iou: [F], their IoU; negative for faces that keep none.
    """
    # A face loses its anchor to one with a higher IoU, or with the same IoU and a lower index.
    place = xp.arange(xp.shape(face_anchor)[0])
    same = face_anchor[:, None] == face_anchor[None, :]
    higher = face_iou[None, :] > face_iou[:, None]
    earlier = xp.logical_and(
        face_iou[None, :] == face_iou[:, None], place[None, :] < place[:, None]
    )
    beaten = xp.any(xp.logical_and(same, xp.logical_or(higher, earlier)), axis=1)
    keeps = xp.logical_and(face_iou > 0, xp.logical_not(beaten))
    # Losers write to a cell past the end.
    target = cast(xp, xp.where(keeps, face_anchor, count), "int32")
    if xp is np:
        result = np.full(count + 1, -1, np.int32)
        result[target] = place
        return result[:count]
    values = xp.where(keeps, xp.cast(place, "int32") + 1, 0)
    result = xp.scatter(target[:, None], values, (count + 1,))
    return result[:count] - 1
