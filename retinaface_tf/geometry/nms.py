"""Greedy non-maximum suppression, once in numpy and once as a graph of fixed size."""

import numpy as np

from retinaface_tf.geometry.boxes import area, pairwise_iou

# More pairs of boxes that may touch than any photo has (500 faces: about 20,000) are not listed.
_MAX_PAIRS = 1 << 20


def non_max_suppression(
    boxes: np.ndarray,
    scores: np.ndarray,
    iou_threshold: float,
    max_outputs: int | None = None,
    top_k: int = 5000,
) -> np.ndarray:
    """Keep the best-scored box of every group that overlaps by more than a threshold.

    Args:
        boxes: float [N, 4] corners.
        scores: float [N]; equal scores keep their input order.
        iou_threshold: a box goes when its IoU with a kept, better one is above this.
        max_outputs: most boxes to keep; None keeps all.
        top_k: only the best `top_k` boxes take part.

    Returns:
        int64 [K] indices into `boxes`, best score first.
    """
    order = np.argsort(-scores, kind="stable")[:top_k]
    boxes = boxes[order]
    by_left = np.argsort(boxes[:, 0], kind="stable")
    # Sorted by its left edge, each box is compared with those that begin within it, so the work follows the boxes
    # that can touch. Overlapping by more than the threshold, they begin within 1 - threshold of it.
    x1, x2 = boxes[by_left, 0], boxes[by_left, 2]
    reach = x1 + (1 - 0.99 * iou_threshold) * (x2 - x1)
    runs = np.maximum(np.searchsorted(x1, reach) - np.arange(1, len(boxes) + 1), 0)
    if runs.sum() <= _MAX_PAIRS:
        kept = _kept_by_pairs(boxes, by_left, runs, iou_threshold)
    else:
        kept = _kept_one_by_one(boxes, iou_threshold)
    return order[np.flatnonzero(kept)[:max_outputs]]


def _kept_by_pairs(boxes, by_left, runs, iou_threshold: float) -> np.ndarray:
    """bool [N], of boxes [N, 4] from the best; `runs[n]` boxes after `by_left[n]` may touch it."""
    areas = area(boxes[by_left])
    x1, y1, x2, y2 = np.ascontiguousarray(boxes[by_left].T)
    i = np.repeat(np.arange(len(runs)), runs)
    j = np.arange(len(i)) + 1 + np.repeat(np.arange(len(runs)) - np.cumsum(runs) + runs, runs)
    height = np.minimum(y2[i], y2[j]) - np.maximum(y1[i], y1[j])
    touching = np.flatnonzero(height > 0)
    i, j = i[touching], j[touching]
    intersection = (np.minimum(x2[i], x2[j]) - x1[j]) * height[touching]
    over = intersection > iou_threshold * (areas[i] + areas[j] - intersection)
    first, second = by_left[i[over]], by_left[j[over]]
    better, worse = np.minimum(first, second), np.maximum(first, second)
    # Greedy suppression is the one set in which a box is kept just when no kept, better box
    # overlaps it. Repeating that rule settles the boxes from the best down.
    kept, previous = np.ones(len(boxes), bool), None
    while not np.array_equal(kept, previous):
        previous, kept = kept, np.ones(len(boxes), bool)
        kept[worse[previous[better]]] = False
    return kept


def _kept_one_by_one(boxes, iou_threshold: float) -> np.ndarray:
    """The same where nearly all boxes touch: each kept one is compared with all that are left."""
    areas, kept = area(boxes), np.ones(len(boxes), bool)
    x1, y1, x2, y2 = np.ascontiguousarray(boxes.T)
    for i in range(len(boxes)):
        if kept[i]:
            j = slice(i + 1, None)
            width = np.minimum(x2[i], x2[j]) - np.maximum(x1[i], x1[j])
            height = np.minimum(y2[i], y2[j]) - np.maximum(y1[i], y1[j])
            intersection = np.maximum(width, 0) * np.maximum(height, 0)
            kept[j] &= ~(intersection > iou_threshold * (areas[i] + areas[j] - intersection))
    return kept


def non_max_suppression_in_graph(boxes, scores, iou_threshold: float, max_outputs: int):
    """`non_max_suppression` of a batch as `keras.ops`, with a fixed number of outputs.

    Greedy suppression is the fixed point of "kept unless a kept, better box overlaps", so the
    pairwise table is resolved by repeating that rule until nothing changes: exact, in a few rounds
    instead of one for each box.

    Args:
        boxes: [B, N, 4] corners.
        scores: [B, N]; padding entries carry a score <= 0 and are never kept.
        iou_threshold: as in `non_max_suppression`.
        max_outputs: K, at most N.

    Returns:
        indices int32 [B, K] into N, best score first; valid bool [B, K], False for padding.
    """
    from keras import ops

    scores, order = ops.top_k(scores, k=boxes.shape[1] or ops.shape(boxes)[1], sorted=True)
    boxes = ops.take_along_axis(boxes, order[..., None], axis=1)
    count = ops.shape(boxes)[1]
    better = ops.arange(count)[:, None] < ops.arange(count)[None, :]
    overlaps = ops.logical_and(pairwise_iou(boxes, boxes) > iou_threshold, better)
    candidates = scores > 0

    def unsettled(kept, previous):
        return ops.any(ops.not_equal(kept, previous))

    def settle(kept, previous):
        suppressed = ops.any(ops.logical_and(overlaps, kept[..., None]), axis=1)
        return ops.logical_and(candidates, ops.logical_not(suppressed)), kept

    kept, _ = ops.while_loop(unsettled, settle, (candidates, ops.logical_not(candidates)))
    # Kept boxes first, in score order: a stable sort by "not kept".
    rank = ops.where(kept, 0, count) + ops.arange(count)
    _, picked = ops.top_k(-rank, k=max_outputs, sorted=True)
    indices = ops.take_along_axis(order, picked, axis=1)
    return ops.cast(indices, "int32"), ops.take_along_axis(kept, picked, axis=1)
