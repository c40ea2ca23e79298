"""Vertices of detected faces from feature maps: the dense branch's arithmetic, without its training.

Written once for numpy and `keras.ops`: inference runs it in numpy, training and exported graphs in
the backend's operators. A face's vertices are regressed in a coordinate frame of that face.
"""

from typing import NamedTuple

import numpy as np

from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.geometry.anchors import count_anchors, level_shapes
from retinaface_tf.geometry.bilinear import sample_bilinear
from retinaface_tf.geometry.namespace import array_namespace, cast

# Where the five points of an upright face lie about their centre, to measure how far it is turned
# in the image (the ArcFace template of `faces`, centred).
_UPRIGHT = np.array(
    [[-17.9, -20.0], [17.3, -20.2], [-0.2, 0.0], [-14.6, 20.6], [14.5, 20.5]], np.float32
)


class CoordinateFrames(NamedTuple):
    """The coordinate frames of K faces, in which their vertices are regressed.

    Attributes:
        center: [K, 2] x, y in pixels.
        size: [K] pixels.
        turn: [K, 2] cosine and sine of the angle by which the face is turned clockwise.
        points: [K, 10] the five points in the coordinate frame, or None where the head takes none.
    """

    center: object
    size: object
    turn: object
    points: object


def anchor_frames(anchors) -> CoordinateFrames:
    """The paper's coordinate frame: anchors [K, 4] cx, cy, w, h themselves."""
    ops = array_namespace(anchors)
    size = anchors[:, 2]
    return CoordinateFrames(anchors[:, :2], size, ops.stack([size / size, 0 * size], axis=-1), None)


def face_frames(boxes, landmarks) -> CoordinateFrames:
    """Coordinate frames of the boxes' centres and sizes, turned as the five points are.

    Args:
        boxes: [K, 4] x1, y1, x2, y2 in pixels.
        landmarks: [K, 5, 2] pixels.
    """
    ops = array_namespace(boxes, landmarks)
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    sides = boxes[:, 2:] - boxes[:, :2]
    size = ops.sqrt(ops.maximum(sides[:, 0] * sides[:, 1], 1.0))
    middle = ops.mean(landmarks, axis=1)
    x = landmarks[:, :, 0] - middle[:, :1]
    y = landmarks[:, :, 1] - middle[:, 1:]
    # The rotation of the least-squares similarity: no angle is ever computed.
    u, v = _UPRIGHT[:, 0], _UPRIGHT[:, 1]
    cosine = ops.sum(x * u + y * v, axis=1)
    sine = ops.sum(y * u - x * v, axis=1)
    length = ops.sqrt(cosine * cosine + sine * sine)
    # Coinciding points have no direction. numpy continues in double precision from here, as the page's
    # and the app's decoders do throughout: in single, wild deltas end a thousandth of a pixel off.
    together = length < 1e-6
    upright = together * 1.0 if ops is np else ops.cast(together, length.dtype)
    length = length + upright
    turn = ops.stack([(cosine + upright) / length, sine / length], axis=-1)
    frames = CoordinateFrames(center, size, turn, None)
    points = to_frames(landmarks, frames)
    return frames._replace(points=ops.reshape(points, (-1, 10)))


def to_frames(points, frames: CoordinateFrames):
    """Points [K, P, 2] or vertices [K, P, 3]: from pixels to the coordinate frames."""
    ops = array_namespace(points, frames.size)
    size = frames.size[:, None]
    x = (points[..., 0] - frames.center[:, :1]) / size
    y = (points[..., 1] - frames.center[:, 1:]) / size
    cosine, sine = frames.turn[:, :1], frames.turn[:, 1:]
    turned = [cosine * x + sine * y, cosine * y - sine * x]
    if points.shape[-1] == 3:
        turned.append(points[..., 2] / size)
    return ops.stack(turned, axis=-1)


def from_frames(points, frames: CoordinateFrames):
    """The inverse of `to_frames`."""
    ops = array_namespace(points, frames.size)
    size = frames.size[:, None]
    cosine, sine = frames.turn[:, :1], frames.turn[:, 1:]
    x, y = points[..., 0], points[..., 1]
    turned = [
        frames.center[:, :1] + size * (cosine * x - sine * y),
        frames.center[:, 1:] + size * (cosine * y + sine * x),
    ]
    if points.shape[-1] == 3:
        turned.append(size * points[..., 2])
    return ops.stack(turned, axis=-1)


class SamplingTable(NamedTuple):
    """Constants of a network and an input size: where each anchor's features are.

    Attributes:
        slots: int [S], the level sampled for each kind of anchor (level and size, in order).
        strides: float [L] of the levels sampled.
        widths, heights: int [L], in cells.
        starts: int [L], a level's first row among all cells of an image, level by level.
        cells: number of cells of an image.
    """

    slots: np.ndarray
    strides: np.ndarray
    widths: object
    heights: object
    starts: object
    cells: object


def slot_levels(config: RetinaFaceConfig) -> np.ndarray:
    """int32 [S]: for each level and anchor size, in order, which level its features come from."""
    return np.array(
        [
            max(0, number - config.dense.finer)
            for number, level in enumerate(config.levels)
            for _ in level.anchor_sizes
        ],
        np.int32,
    )


def sampling_table(config: RetinaFaceConfig, height, width) -> SamplingTable:
    """The table for a network input of a height and width in pixels (numbers or graph tensors)."""
    ops = array_namespace(height, width)
    levels = config.dense_levels
    heights, widths = zip(*level_shapes(levels, height, width))
    starts, total = [], 0
    for rows, columns in zip(heights, widths):
        starts.append(total)
        total = total + rows * columns
    stack = (lambda values: np.array(values, np.int32)) if ops is np else ops.stack
    return SamplingTable(
        slot_levels(config),
        np.array([level.stride for level in levels], np.float32),
        stack(widths),
        stack(heights),
        stack(starts),
        total,
    )


def slots_of_anchors(config: RetinaFaceConfig, height, width, anchors):
    """int [K]: the slot (level and size) of anchors numbered as `generate_anchors` orders them."""
    ops = array_namespace(anchors, height, width)
    slots, first, slot = 0 * anchors, 0, 0
    for level in config.levels:
        kinds = len(level.anchor_sizes)
        count = count_anchors([level], height, width)
        mine = (anchors >= first) & (anchors < first + count)
        slots = ops.where(mine, slot + (anchors - first) % kinds, slots)
        first, slot = first + count, slot + kinds
    return slots


def stacked_cells(maps):
    """Feature maps [B, H, W, C], fine to coarse, as [B * cells, C] for `sample_features`."""
    ops = array_namespace(*maps)
    channels = maps[0].shape[-1]
    rows = [ops.reshape(m, (m.shape[0] or ops.shape(m)[0], -1, channels)) for m in maps]
    rows = ops.concatenate(rows, axis=1) if len(rows) > 1 else rows[0]
    return ops.reshape(rows, (-1, channels))


def sample_features(features, image, frames: CoordinateFrames, slots, table: SamplingTable, config):
    """Features on a grid over each face, interpolated between the four nearest cells.

    Args:
        features: [B * cells, C], each image's levels one behind the other, row by row.
        image: int [K] which image a face is in.
        slots: int [K], see `slots_of_anchors`.

    Returns:
        [K, grid * grid, C]; beyond the image's edge the nearest cell's.
    """
    ops = array_namespace(features, slots)
    level = ops.take(table.slots, slots, axis=0)
    stride = cast(ops, ops.take(table.strides, level, axis=0), frames.size.dtype)[:, None, None]
    columns = ops.take(table.widths, level, axis=0)[:, None]
    rows = ops.take(table.heights, level, axis=0)[:, None]
    first = (ops.take(table.starts, level, axis=0) + image * table.cells)[:, None]
    steps = (np.arange(config.grid, dtype=np.float32) + 0.5) / config.grid - 0.5
    steps = np.float32(config.extent) * steps
    grid = np.stack([np.tile(steps, config.grid), np.repeat(steps, config.grid)], axis=-1)
    # In cells, whole numbers at their middles.
    places = from_frames(grid[None], frames) / stride - 0.5
    return sample_bilinear(features, first, rows, columns, places[..., 0], places[..., 1])


def posed_shape(points, five, shape):
    """A mean face turned in space so that its five points meet detected ones: closed form.

    The linear map from the mean's five points to the image is made a scaled rotation by its
    polar decomposition, M = (M M^T)^(1/2) R, whose root of a 2x2 matrix needs no iteration.

    Args:
        points: [K, 5, 2] detected, in the coordinate frames.
        five: [5, 3] the mean's.
        shape: [V, 3] the mean.

    Returns:
        vertices [K, V, 3] in the coordinate frames; rotation [K, 9], row by row.
    """
    ops = array_namespace(points, five)
    middle = ops.mean(five, axis=0, keepdims=True)
    known = five - middle
    # The pseudo-inverse of the five points, [5, 3].
    solver = ops.matmul(known, _inverse3(ops, ops.matmul(ops.transpose(known), known)))
    offset = ops.mean(points, axis=1, keepdims=True)
    linear = ops.matmul(ops.transpose(points - offset, (0, 2, 1)), solver)
    first, second = linear[:, 0], linear[:, 1]
    a = ops.sum(first * first, axis=-1, keepdims=True)
    b = ops.sum(first * second, axis=-1, keepdims=True)
    d = ops.sum(second * second, axis=-1, keepdims=True)
    # Square root of [[a, b], [b, d]], then its inverse.
    determinant = ops.sqrt(ops.maximum(a * d - b * b, 1e-12))
    trace = ops.sqrt(a + d + 2 * determinant)
    a, b, d = (a + determinant) / trace, b / trace, (d + determinant) / trace
    right = (d * first - b * second) / determinant
    down = (a * second - b * first) / determinant
    away = ops.stack(
        [
            right[:, 1] * down[:, 2] - right[:, 2] * down[:, 1],
            right[:, 2] * down[:, 0] - right[:, 0] * down[:, 2],
            right[:, 0] * down[:, 1] - right[:, 1] * down[:, 0],
        ],
        axis=-1,
    )
    scale = ((a + d) / 2)[..., None]
    rotation = ops.stack([right, down, away], axis=1)
    turned = scale * ops.matmul(shape - middle, ops.transpose(rotation, (0, 2, 1)))
    shift = ops.concatenate([offset, 0 * offset[..., :1]], axis=-1)
    # Depth counts from the nose tip, the third of the five.
    tip = scale[..., 0] * ops.sum((five[2] - middle[0]) * away, axis=-1, keepdims=True)
    shift = shift - ops.concatenate([0 * offset, tip[..., None]], axis=-1)
    return turned + shift, ops.reshape(rotation, (-1, 9))


def _inverse3(ops, m):
    """Inverse of one symmetric, regular [3, 3] matrix, by cofactors: exporters have no operator for it."""
    a, b, c, d, e, f = m[0, 0], m[0, 1], m[0, 2], m[1, 1], m[1, 2], m[2, 2]
    rows = [
        ops.stack([d * f - e * e, c * e - b * f, b * e - c * d]),
        ops.stack([c * e - b * f, a * f - c * c, b * c - a * e]),
        ops.stack([b * e - c * d, b * c - a * e, a * d - b * b]),
    ]
    inverse = ops.stack(rows)
    return inverse / (a * inverse[0, 0] + b * inverse[0, 1] + c * inverse[0, 2])


def regress(samples, points, slots, weights: dict, config, variance: float):
    """The head: from sampled features to vertices in their coordinate frames.

    Args:
        samples: [K, grid * grid, C].
        points: [K, 10] for the coordinate frame "face", else None.
        slots: int [K].
        variance: the network's centre variance, by which the deltas are scaled as landmarks' are.

    Returns:
        [K, V, 3] in sizes of the coordinate frame.
    """
    ops = array_namespace(samples, slots)
    kernel = ops.take(weights["reduce_kernel"], slots, axis=0)
    x = ops.matmul(samples, kernel) + ops.take(weights["reduce_bias"], slots, axis=0)[:, None]
    if config.hidden:
        x = ops.maximum(x, 0.0)
    x = ops.reshape(x, (-1, config.grid * config.grid * config.reduced))
    base, extra = 0.0, []
    if points is not None:
        shape = ops.reshape(weights["shape"], (config.vertices, 3))
        base, rotation = posed_shape(ops.reshape(points, (-1, 5, 2)), weights["five"], shape)
        extra = [points, rotation]
    x = ops.concatenate([x, *extra], axis=-1) if extra else x
    for number in range(len(config.hidden)):
        x = ops.matmul(x, weights[f"hidden{number}_kernel"]) + weights[f"hidden{number}_bias"]
        x = ops.maximum(x, 0.0)
        # The points and the rotation go straight to the later layers too.
        x = ops.concatenate([x, *extra], axis=-1) if extra else x
    code = ops.matmul(x, weights["code_kernel"]) + weights["code_bias"]
    flat = ops.matmul(code, weights["basis"]) + weights["mean"]
    return base + variance * ops.reshape(flat, (-1, config.vertices, 3))


def vertices_in_frames(
    maps, image, numbers, anchors, boxes, landmarks, shape, weights: dict, config: RetinaFaceConfig
):
    """Vertices of K faces in their coordinate frames, from a network's feature maps.

    Args:
        maps: [B, H, W, C] of `config.dense_levels`, fine to coarse.
        image: int [K], which image a face is in.
        numbers: int [K], the anchor it came from.
        anchors: [N, 4] of `geometry.anchors.generate_anchors`.
        boxes, landmarks: [K, 4] and [K, 5, 2], decoded.
        shape: (height, width) of the network's input in pixels, numbers or graph tensors.

    Returns:
        [K, V, 3] in sizes of the coordinate frames, and these.
    """
    ops = array_namespace(*maps, numbers)
    dense = config.dense
    if dense.frame == "face":
        frames = face_frames(boxes, landmarks)
    else:
        frames = anchor_frames(ops.take(anchors, numbers, axis=0))
    slots = slots_of_anchors(config, *shape, numbers)
    table = sampling_table(config, *shape)
    samples = sample_features(stacked_cells(maps), image, frames, slots, table, dense)
    return regress(samples, frames.points, slots, weights, dense, config.center_variance), frames


def vertices_of_faces(*faces):
    """`vertices_in_frames`, with its arguments, in pixels of the network's input: [K, V, 3]."""
    return from_frames(*vertices_in_frames(*faces))
