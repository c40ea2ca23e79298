"""Copy-paste: faces of other images, scaled and blended into a training image (Ghiasi et al. 2021)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from retinaface_tf.data.augment import Scene, resize
from retinaface_tf.data.options import AugmentConfig
from retinaface_tf.data.readers.annotation import AnnotatedImage
from retinaface_tf.errors import ConfigError

# Faces put into one image at most, and places tried for each.
MOST = 4
_TRIALS = 8
# What is copied: the face's box, enlarged so many times about its centre.
_MARGIN = 1.4
# Share of the copied ellipse's radius over which it fades out.
_FADE = 0.3


class FaceCrops:
    """Faces to paste, their files in memory.

    Args:
        images: with one face each that is not ignored; the first one counts.

    Raises:
        ConfigError: no image has a face.
        OSError: a file cannot be read.
    """

    def __init__(self, images: Sequence[AnnotatedImage]):
        usable = [image for image in images if not image.ignored.all()]
        if not usable:
            raise ConfigError("data.paste names labels without a face: there is nothing to paste.")
        chosen = [int(np.argmin(image.ignored)) for image in usable]
        with tf.device("CPU"):
            self._files = tf.constant([image.path.read_bytes() for image in usable])
            boxes = [i.boxes[k] for i, k in zip(usable, chosen)]
            self._boxes = tf.constant(np.stack(boxes), tf.float32)
            points = [i.landmarks[k] for i, k in zip(usable, chosen)]
            self._points = tf.constant(np.stack(points), tf.float32)

    def __len__(self) -> int:
        return len(self._boxes)

    def digest(self) -> str:
        """Twelve hexadecimal digits that tell sets apart, wherever their files lie."""
        digest = hashlib.sha256(self._boxes.numpy().tobytes())
        for content in self._files.numpy():
            digest.update(hashlib.sha256(content).digest())
        return digest.hexdigest()[:12]

    def paste(self, scene: Scene, seed, config: AugmentConfig) -> Scene:
        """The scene with up to `MOST` faces more, each with probability `config.paste`.

        A face gets a longer side drawn from `config.paste_sizes`, each octave alike, and a place where
        it covers no other face, ignored ones among them; where none is found it is left out.

        Args:
            scene: with a float32 image [H, W, 3] in 0..255.
            seed: int [2].
        """
        names = ("image", "boxes", "landmarks", "ignored", "vertices", "scores")
        for one in tf.unstack(tf.random.experimental.stateless_split(seed, MOST)):
            drawn = tf.random.stateless_uniform([], one) < config.paste
            values = [getattr(scene, name) for name in names]

            def pasted(scene=scene, one=one):
                changed = self._paste_one(scene, one, config.paste_sizes)
                return [getattr(changed, name) for name in names]

            values = tf.cond(drawn, pasted, lambda values=values: values)
            scene = Scene(**dict(zip(names, values, strict=True)))
        return scene

    def _paste_one(self, scene: Scene, seed, sizes: tuple[float, float]) -> Scene:
        seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 4))
        number = tf.random.stateless_uniform([], seeds[0], 0, len(self), tf.int32)
        patch = tf.io.decode_image(self._files[number], channels=3, expand_animations=False)
        patch, box, points = _cut(patch, self._boxes[number], self._points[number])
        octaves = tf.random.stateless_uniform([], seeds[1], *(math.log(s) for s in sizes))
        scale = tf.exp(octaves) / tf.maximum(tf.reduce_max(box[2:] - box[:2]), 1.0)
        limits = tf.shape(scene.image)[:2]
        shape = tf.cast(tf.shape(patch)[:2], tf.float32)
        target = tf.clip_by_value(tf.cast(tf.round(shape * scale), tf.int32), 1, limits)
        patch = resize(patch, target)
        ratio = tf.reverse(tf.cast(target, tf.float32) / shape, [0])
        room = tf.reverse(tf.cast(limits - target, tf.float32), [0])
        corners = tf.floor(tf.random.stateless_uniform([_TRIALS, 2], seeds[2]) * (room + 1))
        boxes = tf.tile(corners, [1, 2]) + (box * tf.tile(ratio, [2]))[None]
        free = ~tf.reduce_any(
            tf.reduce_all(boxes[:, None, :2] < scene.boxes[None, :, 2:], axis=2)
            & tf.reduce_all(boxes[:, None, 2:] > scene.boxes[None, :, :2], axis=2),
            axis=1,
        )
        first = tf.argmax(free)
        corner = corners[first]
        brightness = tf.random.stateless_uniform([], seeds[3])
        image = _blend(scene.image, patch, tf.cast(tf.reverse(corner, [0]), tf.int32), brightness)
        added = scene.replace(
            image=image,
            boxes=tf.concat([scene.boxes, boxes[first][None]], axis=0),
            landmarks=tf.concat([scene.landmarks, (points * ratio + corner)[None]], axis=0),
            ignored=tf.pad(scene.ignored, [[0, 1]]),
            vertices=tf.pad(scene.vertices, [[0, 1], [0, 0], [0, 0]], constant_values=np.nan),
            scores=tf.pad(scene.scores, [[0, 1]], constant_values=np.nan),
        )
        found = tf.reduce_any(free)
        kept = tf.concat([tf.ones_like(scene.ignored, tf.bool), found[None]], axis=0)
        return added.replace(image=tf.where(found, image, scene.image)).where(kept)


def _cut(image, box, points):
    """The part of an image about a face, float32, with box and points in its pixels."""
    limits = tf.cast(tf.shape(image)[1::-1], tf.float32)
    center, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2 * _MARGIN
    low = tf.clip_by_value(tf.floor(center - half), 0.0, limits - 1)
    high = tf.clip_by_value(tf.math.ceil(center + half), low + 1, limits)
    left, top, right, bottom = tf.unstack(tf.cast(tf.concat([low, high], axis=0), tf.int32))
    image = tf.cast(image[top:bottom, left:right], tf.float32)
    return image, box - tf.tile(low, [2]), points - low


def _blend(image, patch, corner, brightness):
    """`image` with an ellipse of `patch` at (top, left), whose mean goes some way to what was there."""
    height, width = tf.unstack(tf.shape(patch)[:2])
    rows, columns = tf.linspace(-1.0, 1.0, height), tf.linspace(-1.0, 1.0, width)
    radius = tf.sqrt(rows[:, None] ** 2 + columns[None] ** 2)
    alpha = tf.clip_by_value((1 - radius) / _FADE, 0.0, 1.0)[..., None]
    below = image[corner[0] : corner[0] + height, corner[1] : corner[1] + width]
    patch += brightness * (tf.reduce_mean(below, (0, 1)) - tf.reduce_mean(patch, (0, 1)))
    change = alpha * (tf.clip_by_value(patch, 0.0, 255.0) - below)
    limits = tf.shape(image)
    return image + tf.image.pad_to_bounding_box(change, corner[0], corner[1], limits[0], limits[1])
