"""Augmentation as TensorFlow graph code; every random draw is a pure function of a given seed."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from retinaface_tf.config import IMAGENET_MEAN_RGB
from retinaface_tf.data.options import AugmentConfig
from retinaface_tf.data.upright_in_graph import (
    exif_orientation,
    stored_rectangle,
    turn_upright,
    upright_shape,
)
from retinaface_tf.faces.faces import MIRRORED_POINTS

# Crops tried until one holds a face's centre.
CROP_TRIALS = 32
# A face chosen for a crop is enlarged at most this many times: beyond it is only blurred.
MAX_ENLARGEMENT = 4


@dataclass(frozen=True)
class Scene:
    """An image with its faces inside a graph.

    Attributes:
        image: [H, W, 3].
        boxes: float32 [F, 4] corners in pixels.
        landmarks: float32 [F, 5, 2] in pixels, NaN where unlabelled.
        ignored: bool [F].
        vertices: float32 [F, V, 3] in pixels, NaN for a face without a mesh; V is 0 without any.
        scores: float32 [F], NaN for a face without one.
    """

    image: tf.Tensor
    boxes: tf.Tensor
    landmarks: tf.Tensor
    ignored: tf.Tensor
    vertices: tf.Tensor | None = None
    scores: tf.Tensor | None = None

    def __post_init__(self):
        if self.vertices is None:
            none = tf.zeros([tf.shape(self.boxes)[0], 0, 3])
            object.__setattr__(self, "vertices", none)
        if self.scores is None:
            unknown = tf.fill(tf.shape(self.boxes)[:1], np.float32("nan"))
            object.__setattr__(self, "scores", unknown)

    def replace(self, **changes) -> Scene:
        """A copy with other members."""
        return dataclasses.replace(self, **changes)

    def shrunk(self, factor: float) -> Scene:
        """The faces in pixels of an image `factor` times smaller; the image itself stays."""
        return self.replace(
            boxes=self.boxes / factor,
            landmarks=self.landmarks / factor,
            vertices=self.vertices / factor,
        )

    def where(self, kept) -> Scene:
        """The same image with the faces a bool [F] selects."""
        names = ("boxes", "landmarks", "ignored", "vertices", "scores")
        return self.replace(**{n: tf.boolean_mask(getattr(self, n), kept) for n in names})


def load_and_augment(
    encoded,
    boxes,
    landmarks,
    ignored,
    seed,
    size: int,
    config: AugmentConfig,
    *,
    vertices=None,
    mirror=(),
    scores=None,
    paste: Callable[[Scene, Any], Scene] | None = None,
):
    """From an encoded image to a square, augmented one.

    Args:
        encoded: scalar string, JPEG, PNG, BMP or GIF.
        boxes, landmarks, ignored: of the image's faces, see `Scene`.
        seed: int32 or int64 [2].
        size: side of the result in pixels.
        vertices: meshes of the faces, see `Scene`; None for none.
        mirror: int [V], each vertex's place in a mirrored face (`mesh.topology`).
        scores: of the faces, see `Scene`; None for none. Faces that become too small lose theirs:
            nothing is known of what can be seen of them.
        paste: puts further faces into a scene, as a seed says (`data.paste`).

    Returns:
        `Scene` with a uint8 image [size, size, 3].
    """
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 4))
    orientation = exif_orientation(encoded)
    shape = upright_shape(_stored_shape(encoded), orientation)
    window = choose_crop(shape, boxes, seeds[0], config.crop_scale)
    if config.face_sampling:
        window = tf.cond(
            _happens(seeds[0], config.face_sampling) & tf.reduce_any(~tf.cast(ignored, tf.bool)),
            lambda: choose_face_crop(shape, boxes, ignored, seeds[0], config.face_sizes, size),
            lambda: window,
        )
    image = decode_crop(encoded, shape, orientation, window)
    scene = Scene(image, boxes, landmarks, ignored, vertices, scores)
    scene = move_faces(scene, window, size)
    scene = scene.replace(image=fit_crop(image, shape, window, size))
    if paste is not None:
        # Not one of the four: draws of other runs stay what they were.
        scene = paste(scene, seed + 1)
    if config.flip:
        flipped = functools.partial(flip, scene, mirror)
        scene = _maybe(_happens(seeds[1], config.flip), flipped, scene)
    if config.rotate:
        scene = random_rotation(scene, seeds[2], config.rotate)
    image = scene.image
    if config.photometric:
        image = random_photometric(image, seeds[3], config.photometric)
    if config.degrade:
        image = random_degradation(image, seed + 2, config.degrade)
    image = tf.cast(tf.clip_by_value(tf.round(image), 0, 255), tf.uint8)
    small = tf.reduce_min(scene.boxes[:, 2:] - scene.boxes[:, :2], axis=1) < config.min_face_size
    return scene.replace(
        image=tf.ensure_shape(image, (size, size, 3)),
        ignored=scene.ignored | small,
        scores=tf.where(small, np.float32("nan"), scene.scores),
    )


def _is_jpeg(encoded):
    return tf.equal(tf.strings.substr(encoded, 0, 3), b"\xff\xd8\xff")


def _stored_shape(encoded):
    """int32 [2] height and width; a JPEG has them in its header."""
    return tf.cond(
        _is_jpeg(encoded),
        lambda: tf.io.extract_jpeg_shape(encoded)[:2],
        lambda: tf.shape(tf.io.decode_image(encoded, channels=3, expand_animations=False))[:2],
    )


def choose_crop(shape, boxes, seed, scale_range):
    """A square window holding at least one face's centre, if one of `CROP_TRIALS` does.

    Args:
        shape: int32 [2] height, width of the image.
        boxes: [F, 4] corners.
        seed: [2].
        scale_range: of the side, in short edges.

    Returns:
        float32 [3]: left, top and side in pixels, whole numbers. A side above the image's puts
        the image somewhere inside the window; left or top are then negative.
    """
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    height, width = tf.cast(shape[0], tf.float32), tf.cast(shape[1], tf.float32)
    scale = tf.random.stateless_uniform([CROP_TRIALS], seeds[0], scale_range[0], scale_range[1])
    side = tf.maximum(tf.floor(scale * tf.minimum(height, width)), 1.0)
    draw = tf.random.stateless_uniform([CROP_TRIALS, 2], seeds[1])
    room = tf.stack([width, height])[None, :] - side[:, None]
    corner = tf.floor(draw * tf.where(room >= 0, room + 1, room))
    corner = tf.minimum(corner, tf.maximum(room, 0.0))
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = _inside(center[None], corner[:, None], side[:, None, None])
    first = tf.argmax(tf.reduce_any(inside, axis=1))
    return tf.concat([corner[first], side[first][None]], axis=0)


def choose_face_crop(shape, boxes, ignored, seed, sizes, size: int):
    """A square window in which one face, chosen at random, has a side drawn from a range of sizes.

    Args:
        shape: int32 [2] height, width of the image.
        boxes: [F, 4] corners.
        ignored: bool [F], at least one False: an ignored face is not drawn.
        seed: [2].
        sizes: smallest and largest longer side of the face, in pixels of the network's input.
        size: side of that input.

    Returns:
        float32 [3] as `choose_crop`; the image is enlarged at most `MAX_ENLARGEMENT` times, and the
        window's side is at most twice the short edge.
    """
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 3))
    edges = tf.cast(shape[::-1], tf.float32)
    learnt = tf.boolean_mask(boxes, ~tf.cast(ignored, tf.bool))
    chosen = tf.random.stateless_uniform([], seeds[0], 0, tf.shape(learnt)[0], tf.int32)
    low, high = tf.split(learnt[chosen], 2)
    face = tf.maximum(tf.reduce_max(high - low), 1.0)
    octaves = tf.random.stateless_uniform([], seeds[1], *(math.log(s) for s in sizes))
    side = face * size / tf.exp(octaves)
    side = tf.minimum(side, 2 * tf.reduce_min(edges))
    side = tf.floor(tf.maximum(side, tf.maximum(size / MAX_ENLARGEMENT, 1.0)))
    draw = tf.random.stateless_uniform([2], seeds[2])
    # Any place at which the face lies inside, or in the middle of a window that is too small for it.
    corner = high - side + draw * tf.maximum(side - (high - low), 0.0)
    corner = tf.where(side >= high - low, corner, (low + high - side) / 2)
    room = edges - side
    corner = tf.clip_by_value(tf.floor(corner), tf.minimum(room, 0.0), tf.maximum(room, 0.0))
    return tf.concat([tf.floor(corner), side[None]], axis=0)


def _inside(points, corner, side):
    return tf.reduce_all((points >= corner) & (points < corner + side), axis=-1)


def decode_crop(encoded, shape, orientation, window):
    """The part of the window that lies in the image, uint8 [h, w, 3]; decodes no more of a JPEG.

    Args:
        encoded: scalar string.
        shape: int32 [2] height, width of the upright image.
        orientation: as `exif_orientation` gives it.
        window: float32 [3] left, top and side, in the upright image's pixels.
    """
    left, top, side = tf.unstack(tf.cast(window, tf.int32))
    right, bottom = tf.minimum(left + side, shape[1]), tf.minimum(top + side, shape[0])
    visible = tf.maximum(left, 0), tf.maximum(top, 0), right, bottom
    left, top, right, bottom = stored_rectangle(visible, shape, orientation)
    image = tf.cond(
        _is_jpeg(encoded),
        lambda: tf.image.decode_and_crop_jpeg(
            encoded, tf.stack([top, left, bottom - top, right - left]), channels=3
        ),
        lambda: tf.io.decode_image(encoded, channels=3, expand_animations=False)[
            top:bottom, left:right
        ],
    )
    return turn_upright(image, orientation)


def fit_crop(image, shape, window, size: int):
    """What `decode_crop` gave, filled with the mean pixel and scaled to float32 [size, size, 3]."""
    left, top, side = tf.unstack(window)

    def fill():
        # Scaled before it is padded: the window may be twice the image.
        scale = size / side
        inner = tf.cast(tf.round(tf.cast(tf.shape(image)[:2], tf.float32) * scale), tf.int32)
        inner = tf.clip_by_value(inner, 1, size)
        offset = tf.cast(tf.round(tf.maximum(tf.stack([-top, -left]), 0.0) * scale), tf.int32)
        offset = tf.minimum(offset, size - inner)
        small = resize(image, inner) - IMAGENET_MEAN_RGB
        padded = tf.image.pad_to_bounding_box(small, offset[0], offset[1], size, size)
        return padded + IMAGENET_MEAN_RGB

    whole = tf.reduce_all(tf.cast(tf.shape(image)[:2], tf.float32) >= side)
    return tf.cond(whole, lambda: resize(image, [size, size]), fill)


def resize(image, shape):
    """As at inference (`inference.preprocess`): the mean of what falls in a pixel, or bilinear."""
    return tf.cond(
        tf.reduce_any(tf.shape(image)[:2] > shape),
        lambda: tf.image.resize(image, shape, tf.image.ResizeMethod.AREA),
        lambda: tf.image.resize(image, shape),
    )


def move_faces(scene: Scene, window, size: int) -> Scene:
    """Faces in the window's coordinates: kept when their centre is in it, boxes clipped to it."""
    corner, side = window[:2], window[2]
    center = (scene.boxes[:, :2] + scene.boxes[:, 2:]) / 2
    scene = scene.where(_inside(center, corner[None], side))
    scale = size / side
    boxes = (scene.boxes - tf.tile(corner, [2])[None]) * scale
    return scene.replace(
        boxes=tf.clip_by_value(boxes, 0.0, float(size)),
        landmarks=(scene.landmarks - corner[None, None]) * scale,
        vertices=(scene.vertices - tf.pad(corner, [[0, 1]])[None, None]) * scale,
    )


def _happens(seed, probability: float):
    return tf.random.stateless_uniform([], seed) < probability


def _maybe(happens, changed: Callable[[], Scene], scene: Scene) -> Scene:
    """`changed()` where it happens, else the scene."""
    names = [field.name for field in dataclasses.fields(Scene)]

    def values(scene):
        return [tf.convert_to_tensor(getattr(scene, name)) for name in names]

    return Scene(*tf.cond(happens, lambda: values(changed()), lambda: values(scene)))


def flip(scene: Scene, mirror=()) -> Scene:
    """Mirrors left to right; left and right points, and vertices as `mirror` says, change places."""
    width = tf.cast(tf.shape(scene.image)[1], tf.float32)
    x1, y1, x2, y2 = tf.unstack(scene.boxes, axis=1)
    points = tf.gather(scene.landmarks, MIRRORED_POINTS, axis=1)
    vertices = tf.gather(scene.vertices, np.array(mirror, np.int32), axis=1)
    return scene.replace(
        image=tf.reverse(scene.image, [1]),
        boxes=tf.stack([width - x2, y1, width - x1, y2], axis=1),
        landmarks=tf.stack([width - points[..., 0], points[..., 1]], axis=-1),
        vertices=vertices * [-1.0, 1.0, 1.0] + tf.stack([width, 0.0, 0.0]),
    )


def random_rotation(scene: Scene, seed, probability: float) -> Scene:
    """Turns a square image by 90, 180 or 270 degrees with the given probability."""
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    turns = tf.random.stateless_uniform([], seeds[1], 1, 4, dtype=tf.int32)
    return rotate(scene, tf.where(_happens(seeds[0], probability), turns, 0))


def rotate(scene: Scene, turns) -> Scene:
    """Turns a square image `turns` times, 0 to 3, by 90 degrees anticlockwise.

    A point stays the same part of the face: the order of the five is that of the upright face.
    """
    for turn in (1, 2, 3):
        scene = _maybe(turns >= turn, lambda scene=scene: _quarter_turn(scene), scene)
    return scene


def _quarter_turn(scene: Scene) -> Scene:
    size = tf.cast(tf.shape(scene.image)[1], tf.float32)
    x1, y1, x2, y2 = tf.unstack(scene.boxes, axis=1)
    x, y, z = tf.unstack(scene.vertices, axis=-1)
    points = scene.landmarks
    return scene.replace(
        image=tf.image.rot90(scene.image),
        boxes=tf.stack([y1, size - x2, y2, size - x1], axis=1),
        landmarks=tf.stack([points[..., 1], size - points[..., 0]], axis=-1),
        vertices=tf.stack([y, size - x, z], axis=-1),
    )


def random_photometric(image, seed, probability: float):
    """Brightness, contrast, saturation and hue, each with the given probability (Liu et al. 2016).

    Args:
        image: float32 [H, W, 3] in 0..255.
        seed: [2].
        probability: of each change.
    """
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 9))
    changes = (
        (lambda x, v: x + 32 * v),
        (lambda x, v: x * (1 + 0.5 * v)),
        (lambda x, v: tf.image.adjust_saturation(x, 1 + 0.5 * v)),
        (lambda x, v: tf.image.adjust_hue(x, 0.05 * v)),
    )
    for change, happens, amount in zip(changes, seeds[:4], seeds[4:8]):
        value = tf.random.stateless_uniform([], amount, -1.0, 1.0)
        image = tf.cond(
            _happens(happens, probability),
            lambda x=image, f=change, v=value: tf.clip_by_value(f(x, v), 0.0, 255.0),
            lambda x=image: x,
        )
    return image


def random_degradation(image, seed, probability: float):
    """Fewer pixels, JPEG compression, little light with noise, and grey, each with the given probability.

    Args:
        image: float32 [H, W, 3] in 0..255.
        seed: [2].
        probability: of each change.
    """
    shape = tf.shape(image)
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 9))

    def shrink(x, v):
        fewer = tf.cast(tf.cast(shape[:2], tf.float32) * (0.4 + 0.5 * v), tf.int32)
        return tf.image.resize(resize(x, tf.maximum(fewer, 1)), shape[:2])

    def compress(x, v):
        quality = tf.cast(20 + 60 * v, tf.int32)
        return 255 * tf.image.adjust_jpeg_quality(tf.clip_by_value(x / 255, 0, 1), quality)

    def darken(x, v):
        noise = tf.random.stateless_normal(shape, seeds[8], stddev=6.0)
        return tf.clip_by_value(x * (0.15 + 0.45 * v) + noise, 0, 255)

    def grey(x, v):
        return tf.repeat(tf.image.rgb_to_grayscale(x), 3, axis=2)

    for change, happens, amount in zip((shrink, compress, darken, grey), seeds[:4], seeds[4:8]):
        value = tf.random.stateless_uniform([], amount)
        image = tf.cond(
            _happens(happens, probability),
            lambda x=image, f=change, v=value: f(x, v),
            lambda x=image: x,
        )
        image = tf.reshape(image, shape)
    return image
