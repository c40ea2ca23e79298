"""Training examples of the dense head with the detector frozen: features of positives, cached.

Each labelled face is pasted at several sizes, turns and places, mirrored and recoloured; the
detector runs once; the features of the anchors that found the face are kept, with the vertices in
the frame of each. The head then trains on these without any image.
"""

from __future__ import annotations

import functools
import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from retinaface_tf.data.readers.mesh_labels import MeshLabels
from retinaface_tf.errors import DataError
from retinaface_tf.geometry.anchors import generate_anchors
from retinaface_tf.geometry.box_coding import decode_boxes, decode_points
from retinaface_tf.geometry.boxes import clip_boxes
from retinaface_tf.images.read import read_image
from retinaface_tf.inference.runtimes.runtime import Runtime
from retinaface_tf.layers.dense_frames import (
    anchor_frames,
    face_frames,
    sample_features,
    sampling_table,
    slots_of_anchors,
    to_frames,
)
from retinaface_tf.mesh.topology import MeshTopology
from retinaface_tf.util.npz import read_npz, write_npz

# Sides of the squares that faces are pasted into.
CANVASES = (96, 160, 256, 416, 672)
# Share of the photos that is held out.
HELD_OUT = 0.1
# A positive's box against the face: distance of centres and ratio of sizes, in face sizes.
_NEAR, _ALIKE = 0.3, 1.6


@dataclass(frozen=True, kw_only=True)
class DenseFeaturesConfig:
    """How examples are made.

    Attributes:
        versions: times each face is shown.
        sizes: smallest and largest face in pixels, square root of the box's area, drawn evenly in
            its logarithm.
        enlarge: largest factor by which a face is enlarged.
        turn: standard deviation of the turn in degrees; one turn in four is drawn evenly from up to
            three times that.
        positives: most anchors of a face, the best one first.
        threshold: least score of a positive.
        held_out: share of the photos that is held out, by a hash of their names.
        part: faces whose examples are written together.
        seed: of everything random.
    """

    versions: int = 3
    sizes: tuple[float, float] = (16.0, 320.0)
    enlarge: float = 1.5
    turn: float = 15.0
    positives: int = 2
    threshold: float = 0.3
    held_out: float = HELD_OUT
    part: int = 1000
    seed: int = 0


@dataclass(frozen=True)
class DenseExamples:
    """Examples, all arrays one entry each.

    Attributes:
        samples: float16 [N, grid * grid, C] features.
        points: float32 [N, 10] five points in the frame; zeros for anchor frames.
        slots: int32 [N] see `layers.dense_frames`.
        targets: float16 [N, V, 3] vertices in the frame, divided by its size alone.
        size: float32 [N] of the frame in pixels of the network's input.
        scale: float32 [N] frame sizes to sqrt(W * H) of the face's own box.
        face: int32 [N] which labelled face.
        held_out: bool [N].
    """

    samples: np.ndarray
    points: np.ndarray
    slots: np.ndarray
    targets: np.ndarray
    size: np.ndarray
    scale: np.ndarray
    face: np.ndarray
    held_out: np.ndarray

    def __len__(self) -> int:
        return len(self.slots)

    def keep(self, chosen: np.ndarray) -> DenseExamples:
        """The examples that an index array or a mask selects."""
        return DenseExamples(**{name: values[chosen] for name, values in vars(self).items()})


def held_out_photos(names: list[str], share: float) -> np.ndarray:
    """bool [N]: the held-out photos; a photo's own name decides, whatever else there is."""
    values = [int(hashlib.sha256(Path(n).name.encode()).hexdigest()[:8], 16) for n in names]
    return np.array(values, np.float64) < share * 2.0**32


def examples_name(labels: MeshLabels, *settings: object) -> str:
    """Of a folder of examples: another for other labels or settings, so that a run goes on with its own."""
    digest = hashlib.sha256(repr(settings).encode())
    for text in labels.images:
        digest.update(os.fsencode(text) + b"\n")
    for values in (labels.image, labels.boxes, labels.vertices):
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()[:16]


def make_examples(
    labels: MeshLabels,
    folder: Path,
    runtime: Runtime,
    topology: MeshTopology,
    config: DenseFeaturesConfig,
    progress: Callable[[int], object] | None = None,
    limit_seconds: float | None = None,
) -> bool:
    """Writes the examples of labelled faces, part by part; a run that was stopped goes on.

    Args:
        labels: faces with vertices.
        runtime: the detector with a dense branch; its head is not used.
        topology: whose mirror permutation flips faces.
        limit_seconds: no part begins later than this.

    Returns:
        Whether all parts exist.

    Raises:
        DataError: there is no face, or the folder cannot be written.
    """
    if not len(labels):
        raise DataError("There is no labelled face to make examples of.")
    folder.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    held_out = held_out_photos(labels.images, config.held_out)[labels.image]
    order = np.argsort(labels.image, kind="stable")
    for start in range(0, len(order), config.part):
        mine = order[start : start + config.part]
        target = folder / f"examples-{start // config.part:05d}.npz"
        if not target.is_file():
            if limit_seconds is not None and time.monotonic() - begin > limit_seconds:
                return False
            rng = np.random.default_rng((config.seed, start))
            examples = _examples_of(labels, mine, held_out, runtime, topology, config, rng)
            write_npz(target, vars(examples), compressed=False, error=DataError)
        if progress:
            progress(len(mine))
    return True


def read_examples(folder: Path) -> DenseExamples:
    """What `make_examples` wrote.

    Raises:
        DataError: there is nothing, or a part is damaged.
    """
    paths = sorted(Path(folder).glob("examples-*.npz"))
    if not paths:
        raise DataError(f"{folder} holds no examples.")
    read = functools.partial(read_npz, key=None, limit=None, remedy="remove it", error=DataError)
    return _joined([read(path)[0] for path in paths])


def join_examples(parts: list[DenseExamples]) -> DenseExamples:
    """Examples of several sets, one after the other."""
    return _joined([vars(part) for part in parts])


def _joined(parts: list[dict]) -> DenseExamples:
    return DenseExamples(**{name: np.concatenate([p[name] for p in parts]) for name in parts[0]})


def _examples_of(labels, faces, held_out, runtime, topology, config, rng) -> DenseExamples:
    scenes: dict[int, list] = {side: [] for side in CANVASES}
    path, image = None, None
    parts: list[dict] = []

    def flush(side: int) -> None:
        if scenes[side]:
            parts.extend(_gather(scenes[side], runtime, config, rng))
            scenes[side].clear()

    for face in faces:
        name = labels.images[labels.image[face]]
        if name != path:
            path, image = name, read_image(name)
        for _ in range(config.versions):
            scene = _paste(image, labels, face, topology, config, rng)
            side = scene["pixels"].shape[0]
            scenes[side].append({**scene, "face": face, "held_out": held_out[face]})
            if len(scenes[side]) * side * side >= 2_000_000:
                flush(side)
    for side in CANVASES:
        flush(side)
    if not parts:
        raise DataError("The detector found none of these faces; check the labels' images.")
    return _joined(parts)


def _paste(image, labels, face, topology, config, rng) -> dict:
    """A face on a square canvas: pixels, vertices, centre and size."""
    box, vertices = labels.boxes[face], labels.vertices[face].astype(np.float64)
    own = float(np.sqrt(np.prod(box[2:] - box[:2])))
    low, high = config.sizes
    high = max(low, min(high, config.enlarge * own))
    size = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    fitting = [side for side in CANVASES if side >= 1.5 * size] or [CANVASES[-1]]
    side = fitting[min(int(rng.integers(2)), len(fitting) - 1)] if size < 100 else fitting[0]
    spread = config.turn if rng.random() < 0.75 else None
    turn = rng.normal(0, spread) if spread else rng.uniform(-3 * config.turn, 3 * config.turn)
    mirrored = rng.random() < 0.5
    scale, angle = size / own, np.deg2rad(turn)
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if mirrored:
        linear = linear @ np.diag([-1.0, 1.0])
    center = (box[:2] + box[2:]).astype(np.float64) / 2
    room = max(0.0, side / 2 - 0.65 * size)
    place = side / 2 + rng.uniform(-room, room, 2)
    shift = place - linear @ center
    xy = vertices[:, :2] @ linear.T + shift
    moved = np.concatenate([xy, scale * vertices[:, 2:]], axis=1)
    if mirrored:
        moved = topology.flip(moved)
    pixels = _warp(image, linear, shift, side, scale, rng)
    return {"pixels": _recolor(pixels, rng), "vertices": moved, "center": place, "own": size}


def _warp(image, linear, shift, side: int, scale: float, rng) -> np.ndarray:
    if scale < 0.5:
        factor = 1 / int(1 / scale)
        image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        linear = linear / factor
    # From pixel edges, which coordinates count from, to OpenCV's pixel middles.
    matrix = np.concatenate([linear, (shift + linear @ [0.5, 0.5] - 0.5)[:, None]], axis=1)
    border = cv2.BORDER_REPLICATE if rng.random() < 0.5 else cv2.BORDER_CONSTANT
    return cv2.warpAffine(
        image,
        matrix,
        (side, side),
        flags=cv2.INTER_LINEAR,
        borderMode=border,
        borderValue=(123, 117, 104),
    )


def _recolor(pixels: np.ndarray, rng) -> np.ndarray:
    values = pixels.astype(np.float32)
    if rng.random() < 0.7:
        values = values * rng.uniform(0.6, 1.4) + rng.uniform(-30, 30)
    if rng.random() < 0.15:
        values = np.repeat(values.mean(axis=-1, keepdims=True), 3, axis=-1)
    elif rng.random() < 0.3:
        values = values * rng.uniform(0.85, 1.15, 3).astype(np.float32)
    if rng.random() < 0.2:
        values = values + rng.normal(0, rng.uniform(2, 10), values.shape)
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _gather(scenes: list[dict], runtime: Runtime, config: DenseFeaturesConfig, rng) -> list[dict]:
    """Runs the detector over canvases of one size; the examples of each face that it found."""
    network, dense = runtime.config, runtime.config.dense
    side = scenes[0]["pixels"].shape[0]
    shape = runtime.input_shape(side, side)
    canvas = np.empty((len(scenes), *shape, 3), np.uint8)
    canvas[:] = np.rint(network.pixel_mean).astype(np.uint8)
    for i, scene in enumerate(scenes):
        canvas[i, :side, :side] = scene["pixels"]
    outputs = runtime(canvas)
    anchors = generate_anchors(network.levels, *shape)
    table = sampling_table(network, *shape)
    variances = network.center_variance, network.size_variance
    parts = []
    for i, scene in enumerate(scenes):
        found = np.flatnonzero(outputs.scores[i] >= config.threshold)
        boxes = decode_boxes(outputs.box_deltas[i][found], anchors[found], *variances)
        boxes = clip_boxes(boxes, side, side)
        sizes = np.sqrt(np.maximum(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), 1e-6))
        distance = np.linalg.norm((boxes[:, :2] + boxes[:, 2:]) / 2 - scene["center"], axis=1)
        ratio = sizes / scene["own"]
        good = (distance < _NEAR * scene["own"]) & (np.maximum(ratio, 1 / ratio) < _ALIKE)
        if not good.any():
            continue
        order = np.flatnonzero(good)[np.argsort(-outputs.scores[i][found[good]])]
        rest = rng.permutation(order[1:])[: config.positives - 1]
        chosen = np.concatenate([order[:1], rest]).astype(int)
        found, boxes = found[chosen], boxes[chosen]
        points = outputs.landmark_deltas[i][found].reshape(-1, 5, 2)
        landmarks = decode_points(points, anchors[found], network.center_variance)
        face = dense.frame == "face"
        frames = face_frames(boxes, landmarks) if face else anchor_frames(anchors[found])
        slots = slots_of_anchors(network, *shape, found)
        maps = [level[i].reshape(-1, level.shape[-1]) for level in outputs.features]
        image = np.zeros(len(found), np.int64)
        samples = sample_features(np.concatenate(maps), image, frames, slots, table, dense)
        vertices = np.repeat(scene["vertices"][None], len(found), axis=0)
        points = frames.points if frames.points is not None else np.zeros((len(found), 10))
        parts.append(
            {
                "samples": samples.astype(np.float16),
                "points": points.astype(np.float32),
                "slots": slots.astype(np.int32),
                "targets": to_frames(vertices, frames).astype(np.float16),
                "size": frames.size.astype(np.float32),
                "scale": (frames.size / scene["own"]).astype(np.float32),
                "face": np.full(len(found), scene["face"], np.int32),
                "held_out": np.full(len(found), scene["held_out"], bool),
            }
        )
    return parts
