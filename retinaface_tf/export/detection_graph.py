"""Detection as one TensorFlow graph: images in, faces in the images' own pixels out.

What `RetinaFace` does in numpy around the network is done here by TensorFlow: scaling, padding,
reading the heads, suppression, the way back. A test holds the two equal on real photos.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import tensorflow as tf

from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.export.image_decoding import GOOD, UNDECODABLE, decode_or_fail, decode_upright
from retinaface_tf.export.suppression import suppress
from retinaface_tf.geometry.anchors import generate_anchors, generate_anchors_in_graph
from retinaface_tf.geometry.boxes import clip_boxes
from retinaface_tf.inference.postprocess_in_graph import read_faces_in_graph
from retinaface_tf.inference.preprocess import DEFAULT_MAX_SIDE
from retinaface_tf.layers.dense_frames import vertices_of_faces
from retinaface_tf.modelfile.metadata import Suppression

if TYPE_CHECKING:
    from retinaface_tf.export.savedmodel import SavedModelOptions

# As in `inference.detector`: more pixels than this never go through the network at once.
CHUNK_PIXELS = 8_000_000
# As in `geometry.nms`: only this many of the best detections are compared.
TOP_K = 5000


class Scaled(NamedTuple):
    """Images as the network sees them.

    Attributes:
        pixels: uint8 [B, h, w, 3], scaled, and padded where the size is fixed.
        sizes: int32 [B, 2] height and width of the scaled image within it.
        originals: int32 [B, 2] height and width of the image as it came.
        status: int32 [B], see `image_decoding`.
    """

    pixels: tf.Tensor
    sizes: tf.Tensor
    originals: tf.Tensor
    status: tf.Tensor


@dataclass(frozen=True, eq=False)
class DetectionGraph:
    """Detects faces in images of any size.

    Attributes:
        network: uint8 [B, h, w, 3] -> the outputs of `models.read_heads.raw_heads`.
        dense_weights: of the dense head, where the network has one.
    """

    network: Callable[[tf.Tensor], dict[str, tf.Tensor]]
    config: RetinaFaceConfig
    options: SavedModelOptions
    dense_weights: dict[str, np.ndarray] | None = None

    def detect_encoded(self, data: tf.Tensor) -> dict[str, tf.Tensor]:
        """Faces of encoded images of any format, size and state.

        Args:
            data: string [B].

        Returns:
            boxes float32 [B, K, 4], scores [B, K], landmarks [B, K, 5, 2], num_faces int32 [B],
            status int32 [B] (see `image_decoding`), truncated int32 [B], 1 where `max_faces` left
            faces out, and vertices [B, K, V, 3] of a network with a dense branch; zeros behind the
            last face. K is `max_faces`, or without it the largest number of faces of an image.
        """
        size = self.options.size

        def load(one):
            image, status = decode_upright(one, self.options.max_pixels)
            return self._scale(image[None], status[None])

        # Images of their own sizes have shapes of their own, so they go one by one.
        step = 1 if size is None else max(1, CHUNK_PIXELS // (size[0] * size[1]))
        read = (lambda part: load(part[0])) if size is None else self._load_padded
        return self._in_chunks(lambda part: self._answer(read(part)), data, tf.constant(step))

    def detect_pixels(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Faces of images of one size, uint8 RGB [B, H, W, 3]; returns as `detect_encoded`."""

        def detect(part):
            return self._answer(self._scale(part, tf.fill([tf.shape(part)[0]], GOOD)))

        height, width = tf.shape(images)[1], tf.shape(images)[2]
        with tf.control_dependencies(
            [tf.debugging.assert_positive(height * width, "images must have at least one pixel")]
        ):
            height, width = self.options.size or self._target_size(height, width)
            step = tf.maximum(1, CHUNK_PIXELS // tf.cast(height * width, tf.int32))
        return self._in_chunks(detect, images, step)

    def _in_chunks(self, detect, inputs, step) -> dict[str, tf.Tensor]:
        """`detect` of `step` entries at a time, the answers joined: memory stays bounded.

        `detect` gives the faces of all its entries one after the other; they become a table here.
        """
        count = tf.shape(inputs)[0]
        tails = self._tails
        kinds = dict.fromkeys(tails, tf.float32)
        kinds |= dict.fromkeys(("num_faces", "status", "truncated"), tf.int32)
        arrays = {
            name: tf.TensorArray(
                kind,
                size=0,
                dynamic_size=True,
                element_shape=[None, *tails.get(name, [])],
                infer_shape=False,
            )
            for name, kind in kinds.items()
        }

        def body(number, arrays):
            start = number * step
            answers = detect(inputs[start : tf.minimum(start + step, count)])
            return number + 1, {
                name: array.write(number, answers[name]) for name, array in arrays.items()
            }

        _, arrays = tf.while_loop(
            lambda number, _: number * step < count,
            body,
            (tf.constant(0), arrays),
            parallel_iterations=1,
        )
        answers = {name: array.concat() for name, array in arrays.items()}
        for name, tail in tails.items():
            rows = tf.RaggedTensor.from_row_lengths(
                answers[name], answers["num_faces"], validate=False
            )
            shape = [None, self.options.max_faces, *tail]
            answers[name] = tf.ensure_shape(rows.to_tensor(shape=shape), shape)
        return answers

    def _load_padded(self, data) -> Scaled:
        """Decodes, scales and pads images to a fixed size.

        One dataset for all of them: a dataset of its own for each, as `decode_upright` has, takes
        2 ms of processor time more an image. What fails is missing from the dataset's end; numbers
        tell which that is, and a stand-in takes its place.
        """
        count = tf.size(data)

        def load(number, one):
            image, status = decode_or_fail(one, self.options.max_pixels)
            return number, *(values[0] for values in self._scale(image[None], status[None]))

        stand_in = (
            tf.zeros([*self.options.size, 3], tf.uint8),
            tf.fill([2], 32),
            tf.fill([2], 32),
            tf.constant(UNDECODABLE),
        )
        images = tf.data.Dataset.from_tensor_slices((tf.range(count), data))
        images = images.map(load, num_parallel_calls=4, deterministic=False).ignore_errors()
        images = tf.data.Dataset.from_tensors((count, *stand_in)).concatenate(images)
        numbers, *loaded = images.batch(tf.cast(count + 1, tf.int64)).get_single_element()
        # Row of each image among what was loaded; row 0 is the stand-in.
        rows = tf.scatter_nd(numbers[1:, None], tf.range(1, tf.size(numbers)), [count])
        return Scaled(*(tf.gather(values, rows) for values in loaded))

    @property
    def _tails(self) -> dict[str, list[int]]:
        """Outputs for each face, and their shapes for one."""
        tails = {"boxes": [4], "scores": [], "landmarks": [5, 2]}
        if self.config.dense:
            tails["vertices"] = [self.config.dense.vertices, 3]
        return tails

    def _answer(self, scaled: Scaled) -> dict[str, tf.Tensor]:
        """Images that are not good cost nothing: they do not go through the network."""
        good = tf.where(scaled.status == GOOD)

        def nothing():
            faces = {name: tf.zeros([0, *tail]) for name, tail in self._tails.items()}
            return faces | dict.fromkeys(("num_faces", "truncated"), tf.zeros([0], tf.int32))

        answers = tf.cond(
            tf.size(good) > 0,
            lambda: self._search(Scaled(*(tf.gather(values, good[:, 0]) for values in scaled))),
            nothing,
        )
        count = tf.shape(scaled.status, tf.int64)
        for name in ("num_faces", "truncated"):
            answers[name] = tf.scatter_nd(good, answers[name], count)
        return answers | {"status": scaled.status}

    def _search(self, scaled: Scaled) -> dict[str, tf.Tensor]:
        """What the network and suppression find in good images, faces one after the other."""
        options, config = self.options, self.config
        if options.size is None:
            shape = tf.unstack(tf.shape(scaled.pixels)[1:3])
            anchors = generate_anchors_in_graph(config.levels, *shape)
        else:
            shape = options.size
            anchors = tf.constant(generate_anchors(config.levels, *shape))
        outputs = dict(self.network(scaled.pixels))
        candidates = tf.cast(outputs["scores"] >= options.threshold, tf.int32)
        # Work follows the number of detections, not of anchors.
        top_k = tf.clip_by_value(tf.reduce_max(tf.reduce_sum(candidates, axis=1)), 1, TOP_K)
        inner, outer = tf.cast(scaled.sizes, tf.float32), tf.cast(scaled.originals, tf.float32)
        faces = read_faces_in_graph(
            outputs,
            anchors,
            inner,
            config,
            Suppression(threshold=options.threshold, iou=options.iou, max_faces=None),
            top_k=top_k,
            suppress=suppress,
        )
        count = faces.count
        if options.max_faces is not None:
            count = tf.minimum(count, options.max_faces)
        places = tf.cast(tf.where(tf.sequence_mask(count, top_k)), tf.int32)
        entries = places[:, 0]
        boxes, landmarks = (tf.gather_nd(v, places) for v in (faces.boxes, faces.landmarks))
        scale = tf.gather(inner / outer, entries)[:, ::-1]  # x, y
        height, width = tf.unstack(tf.gather(outer, entries)[..., None], axis=1)
        answers = {
            "boxes": clip_boxes(boxes / tf.tile(scale, [1, 2]), height, width),
            "scores": tf.gather_nd(faces.scores, places),
            "landmarks": landmarks / scale[:, None],
            "num_faces": count,
            "truncated": tf.cast(count < faces.count, tf.int32),
        }
        if config.dense:
            vertices = vertices_of_faces(
                [outputs[name] for name in config.dense_outputs],
                entries,
                tf.gather_nd(faces.anchors, places),
                anchors,
                boxes,
                landmarks,
                shape,
                self.dense_weights,
                config,
            )
            depth = tf.reduce_mean(scale, axis=-1, keepdims=True)
            answers["vertices"] = vertices / tf.concat([scale, depth], axis=-1)[:, None]
        return answers

    def _target_size(self, height, width):
        """As `inference.preprocess.target_size`; float64, like Python's own numbers."""
        tall, wide = tf.cast(height, tf.float64), tf.cast(width, tf.float64)
        if self.options.size is None:
            longest = tf.maximum(tall, wide)
            scale = tf.minimum(tf.constant(1.0, tf.float64), DEFAULT_MAX_SIDE / longest)
        else:
            scale = tf.minimum(self.options.size[0] / tall, self.options.size[1] / wide)
        return tuple(
            tf.maximum(1, tf.cast(tf.round(side * scale), tf.int32)) for side in (tall, wide)
        )

    def _scale(self, images, status) -> Scaled:
        """Images [B, H, W, 3] of one size scaled as `inference.preprocess.prepare`,
        and padded where the network's size is fixed."""
        batch, height, width = (tf.shape(images)[axis] for axis in range(3))
        target = tf.stack(self._target_size(height, width))

        def resize(method):
            resized = tf.image.resize(images, target, method=method)
            return tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8)

        pixels = tf.cond(
            (target[0] == height) & (target[1] == width),
            lambda: images,
            lambda: tf.cond(
                target[0] * target[1] < height * width,
                lambda: resize("area"),
                lambda: resize("bilinear"),
            ),
        )
        if self.options.size is not None:
            missing = tf.constant(self.options.size) - target
            pixels = _pad(pixels, missing[0], missing[1], self.config.pixel_mean)
        pixels = tf.ensure_shape(pixels, [None, *(self.options.size or (None, None)), 3])
        return Scaled(
            pixels,
            tf.tile(target[None], [batch, 1]),
            tf.tile(tf.stack([height, width])[None], [batch, 1]),
            status,
        )


def _pad(pixels, below, right, fill):
    """Padding by the mean pixel, which is zero to the network."""
    color = tf.constant(np.rint(fill).astype(np.uint8))
    batch = tf.shape(pixels)[0]
    side = tf.ones([batch, tf.shape(pixels)[1], right, 1], tf.uint8) * color
    pixels = tf.concat([pixels, side], axis=2)
    bottom = tf.ones([batch, below, tf.shape(pixels)[2], 1], tf.uint8) * color
    return tf.concat([pixels, bottom], axis=1)
