"""The whole search as one TensorFlow graph: images in, faces in the images' own pixels out.

What `RetinaFace` does in numpy around the network is done here by TensorFlow: scaling, padding,
reading the heads, suppression, the way back. A test holds the two equal on real photos.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.export.image_decoding import GOOD, UNDECODABLE, decode_or_fail, decode_upright
from retinaface_tf.geometry.anchors import generate_anchors, generate_anchors_in_graph
from retinaface_tf.geometry.box_coding import decode_boxes, decode_points
from retinaface_tf.geometry.boxes import clip_boxes
from retinaface_tf.inference.preprocess import DEFAULT_MAX_SIDE
from retinaface_tf.layers.dense_frames import dense_vertices, sampling_table, slots_of_anchors

# As in `detector`: more pixels than this never go through the network at once.
CHUNK_PIXELS = 8_000_000
# As in `geometry.suppression`: only so many of the best detections are compared.
TOP_K = 5000


class SearchSettings(NamedTuple):
    """How images are searched.

    Attributes:
        size: (width, height) every image is scaled into, its shape kept, and padded to; None
            searches each at its own size, larger ones shrunk to a longest side of 2048, as
            `RetinaFace.detect` does.
        threshold: least score of a face.
        iou: overlap above which the worse of two detections is dropped.
        max_faces: K, the best so many of an image.
        max_pixels: encoded images with more are refused by their header.
        dense_weights: of the dense head, where the network has one.
    """

    size: tuple[int, int] | None = None
    threshold: float = 0.5
    iou: float = 0.4
    max_faces: int = 100
    max_pixels: int = 100_000_000
    dense_weights: dict[str, np.ndarray] | None = None


class Scaled(NamedTuple):
    """Images as the network sees them.

    Attributes:
        pixels: uint8 [B, h, w, 3], scaled, and padded where the size is fixed.
        sizes: int32 [B, 2] height and width of the scaled image within it.
        originals: int32 [B, 2] height and width of the image as it came.
    """

    pixels: tf.Tensor
    sizes: tf.Tensor
    originals: tf.Tensor


# Scores, box deltas, landmark deltas, and a dense branch's feature maps.
Network = Callable[[tf.Tensor], tuple[tf.Tensor, ...]]


def search_encoded(
    network: Network, data: tf.Tensor, config: RetinaFaceConfig, settings: SearchSettings
) -> dict[str, tf.Tensor]:
    """Searches encoded images of any format, size and state.

    Args:
        network: uint8 [B, h, w, 3] -> scores [B, N], box deltas [B, N, 4], landmark deltas
            [B, N, 10].
        data: string [B].
        config: the network's.
        settings: how.

    Returns:
        boxes float32 [B, K, 4], scores [B, K], landmarks [B, K, 5, 2], num_faces int32 [B],
        status int32 [B] (see `image_decoding`), and vertices [B, K, V, 3] of a network with a
        dense branch; zeros behind the last face.
    """

    def load(one):
        image, status = decode_upright(one, settings.max_pixels)
        scaled = _scale(image[None], config, settings.size)
        return *(values[0] for values in scaled), status

    def search(part):
        # Images of their own sizes have shapes of their own, so they go one by one.
        if settings.size is None:
            *scaled, status = (values[None] for values in load(part[0]))
        else:
            *scaled, status = _load_into_frame(part, config, settings)
        return _answer(network, Scaled(*scaled), status, config, settings)

    if settings.size is None:
        step = tf.constant(1)
    else:
        step = tf.constant(max(1, CHUNK_PIXELS // (settings.size[0] * settings.size[1])))
    return _in_chunks(search, data, step, settings.max_faces, config)


def _load_into_frame(data, config: RetinaFaceConfig, settings: SearchSettings):
    """Decodes and scales images into the frame of a fixed size.

    One dataset for all of them: a dataset of its own for each, as `decode_upright` has, takes 2 ms
    of processor time more an image. What fails is missing from the dataset's end; numbers tell
    which that is, and a stand-in takes its place.

    Returns:
        pixels, sizes and originals as in `Scaled`, and status [B].
    """
    count = tf.size(data)
    width, height = settings.size

    def load(number, one):
        image, status = decode_or_fail(one, settings.max_pixels)
        scaled = _scale(image[None], config, settings.size)
        return number, *(values[0] for values in scaled), status

    stand_in = (
        tf.zeros([height, width, 3], tf.uint8),
        tf.fill([2], 32),
        tf.fill([2], 32),
        tf.constant(UNDECODABLE),
    )
    pictures = tf.data.Dataset.from_tensor_slices((tf.range(count), data))
    pictures = pictures.map(load, num_parallel_calls=4, deterministic=False).ignore_errors()
    pictures = tf.data.Dataset.from_tensors((count, *stand_in)).concatenate(pictures)
    numbers, *loaded = pictures.batch(tf.cast(count + 1, tf.int64)).get_single_element()
    # Row of each image among what was loaded; row 0 is the stand-in.
    rows = tf.scatter_nd(numbers[1:, None], tf.range(1, tf.size(numbers)), [count])
    return tuple(tf.gather(values, rows) for values in loaded)


def search_pixels(
    network: Network, images: tf.Tensor, config: RetinaFaceConfig, settings: SearchSettings
) -> dict[str, tf.Tensor]:
    """Searches images of one size, uint8 RGB [B, H, W, 3]; returns as `search_encoded`."""

    def search(part):
        # An image without pixels is an undecodable one; padding makes it harmless.
        scaled = _scale(part, config, settings.size)
        status = tf.fill([tf.shape(part)[0]], GOOD)
        return _answer(network, scaled, status, config, settings)

    height, width = tf.shape(images)[1], tf.shape(images)[2]
    with tf.control_dependencies(
        [tf.debugging.assert_positive(height * width, "images must have at least one pixel")]
    ):
        if settings.size is not None:
            height, width = settings.size[::-1]
        else:
            height, width = _target_size(height, width, None)
        step = tf.maximum(1, CHUNK_PIXELS // tf.cast(height * width, tf.int32))
    return _in_chunks(search, images, step, settings.max_faces, config)


def _input_shape(size: tuple[int, int] | None) -> tuple[int | None, int | None]:
    return (None, None) if size is None else (size[1], size[0])


def _in_chunks(search, inputs, step, max_faces: int, config) -> dict[str, tf.Tensor]:
    """`search` over `step` entries at a time, the answers joined: memory stays bounded."""
    count = tf.shape(inputs)[0]
    tails = {
        "boxes": ([max_faces, 4], tf.float32),
        "scores": ([max_faces], tf.float32),
        "landmarks": ([max_faces, 5, 2], tf.float32),
        "num_faces": ([], tf.int32),
        "status": ([], tf.int32),
    }
    if config.dense:
        tails["vertices"] = ([max_faces, config.dense.vertices, 3], tf.float32)
    arrays = {
        name: tf.TensorArray(
            kind, size=0, dynamic_size=True, element_shape=[None, *tail], infer_shape=False
        )
        for name, (tail, kind) in tails.items()
    }

    def body(number, arrays):
        start = number * step
        answers = search(inputs[start : tf.minimum(start + step, count)])
        return number + 1, {
            name: array.write(number, answers[name]) for name, array in arrays.items()
        }

    _, arrays = tf.while_loop(
        lambda number, _: number * step < count,
        body,
        (tf.constant(0), arrays),
        parallel_iterations=1,
    )
    return {name: array.concat() for name, array in arrays.items()}


def _answer(network, scaled: Scaled, status, config, settings) -> dict[str, tf.Tensor]:
    height, width = _input_shape(settings.size)
    if settings.size is None:
        shape = tf.shape(scaled.pixels)
        anchors = generate_anchors_in_graph(config.levels, shape[1], shape[2])
    else:
        anchors = tf.constant(generate_anchors(config.levels, height, width))
    outputs = network(scaled.pixels)

    shape = tf.shape(scaled.pixels)[1:3] if settings.size is None else (height, width)

    def read(entry):
        heads, maps, *rest = entry
        return _read_faces(*heads, maps, *rest, anchors, shape, config, settings)

    count = settings.max_faces
    signature = {
        "boxes": tf.TensorSpec([count, 4], tf.float32),
        "scores": tf.TensorSpec([count], tf.float32),
        "landmarks": tf.TensorSpec([count, 5, 2], tf.float32),
        "num_faces": tf.TensorSpec([], tf.int32),
    }
    if config.dense:
        signature["vertices"] = tf.TensorSpec([count, config.dense.vertices, 3], tf.float32)
    answers = tf.map_fn(
        read,
        (outputs[:3], outputs[3:], scaled.sizes, scaled.originals, status),
        fn_output_signature=signature,
    )
    return {**answers, "status": status}


def _read_faces(
    scores,
    box_deltas,
    landmark_deltas,
    maps,
    size,
    original,
    status,
    anchors,
    shape,
    config,
    settings,
):
    """`inference.postprocess.read_faces` of one image, the answer padded to `max_faces`.

    `inference.postprocess_in_graph` needs nothing but `keras.ops` and compares all pairs; on a
    server's processor TensorFlow's own suppression is many times faster.
    """
    accepted = tf.logical_and(scores >= settings.threshold, status == GOOD)
    candidates = tf.where(accepted)[:, 0]
    anchors = tf.gather(anchors, candidates)
    scores = tf.gather(scores, candidates)
    boxes = decode_boxes(
        tf.gather(box_deltas, candidates), anchors, config.center_variance, config.size_variance
    )
    inner = tf.cast(size, tf.float32)
    boxes = clip_boxes(boxes, inner[0], inner[1])
    inside = tf.where((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))[:, 0]
    scores, best = tf.math.top_k(
        tf.gather(scores, inside), k=tf.minimum(tf.size(inside), TOP_K), sorted=True
    )
    inside = tf.gather(inside, best)
    boxes = tf.gather(boxes, inside)
    kept = tf.image.non_max_suppression(boxes, scores, settings.max_faces, settings.iou)
    picked = tf.gather(inside, kept)
    numbers = tf.gather(candidates, picked)
    found_anchors = tf.gather(anchors, picked)
    landmarks = decode_points(
        tf.reshape(tf.gather(landmark_deltas, numbers), [-1, 5, 2]),
        found_anchors,
        config.center_variance,
    )
    boxes = tf.gather(boxes, kept)
    answers = {}
    if config.dense:
        numbers = tf.cast(numbers, tf.int32)
        rows = [tf.reshape(values, [-1, values.shape[-1]]) for values in maps]
        answers["vertices"] = dense_vertices(
            tf.concat(rows, axis=0),
            tf.zeros_like(numbers),
            found_anchors,
            slots_of_anchors(config, shape[0], shape[1], numbers),
            boxes,
            landmarks,
            sampling_table(config, shape[0], shape[1]),
            settings.dense_weights,
            config,
        )
    outer = tf.cast(original, tf.float32)
    scale = (inner / outer)[::-1]
    answers["boxes"] = clip_boxes(boxes / tf.tile(scale, [2]), outer[0], outer[1])
    answers["scores"] = tf.gather(scores, kept)
    answers["landmarks"] = landmarks / scale
    if config.dense:
        answers["vertices"] /= tf.concat([scale, tf.reduce_mean(scale, keepdims=True)], axis=0)
    found = tf.size(kept)
    padding = [0, settings.max_faces - found]
    answers = {
        name: tf.pad(values, [padding, *[[0, 0]] * (values.shape.rank - 1)])
        for name, values in answers.items()
    }
    return {**answers, "num_faces": found}


def _target_size(height, width, size: tuple[int, int] | None):
    """As `inference.preprocess.target_size`; float64, like Python's own numbers."""
    tall, wide = tf.cast(height, tf.float64), tf.cast(width, tf.float64)
    if size is None:
        scale = tf.minimum(tf.constant(1.0, tf.float64), DEFAULT_MAX_SIDE / tf.maximum(tall, wide))
    else:
        scale = tf.minimum(size[0] / wide, size[1] / tall)
    return tuple(tf.maximum(1, tf.cast(tf.round(side * scale), tf.int32)) for side in (tall, wide))


def _scale(images, config: RetinaFaceConfig, size: tuple[int, int] | None) -> Scaled:
    """Images [B, H, W, 3] of one size scaled as `inference.preprocess.prepare`,
    and padded where the network's size is fixed."""
    batch, height, width = (tf.shape(images)[axis] for axis in range(3))
    new_height, new_width = _target_size(height, width, size)
    target = tf.stack([new_height, new_width])

    def resize(method):
        resized = tf.image.resize(images, target, method=method)
        return tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8)

    pixels = tf.cond(
        (new_height == height) & (new_width == width),
        lambda: images,
        lambda: tf.cond(
            new_height * new_width < height * width,
            lambda: resize("area"),
            lambda: resize("bilinear"),
        ),
    )
    if size is not None:
        columns, rows = size
        pixels = _pad(pixels, rows - new_height, columns - new_width, config.pixel_mean)
    pixels = tf.ensure_shape(pixels, [None, *_input_shape(size), 3])
    return Scaled(
        pixels,
        tf.tile(target[None], [batch, 1]),
        tf.tile(tf.stack([height, width])[None], [batch, 1]),
    )


def _pad(pixels, below, right, fill):
    """Padding by the mean pixel, which is zero to the network."""
    color = tf.constant(np.rint(fill).astype(np.uint8))
    batch = tf.shape(pixels)[0]
    side = tf.ones([batch, tf.shape(pixels)[1], right, 1], tf.uint8) * color
    pixels = tf.concat([pixels, side], axis=2)
    bottom = tf.ones([batch, below, tf.shape(pixels)[2], 1], tf.uint8) * color
    return tf.concat([pixels, bottom], axis=1)
