"""What learning boxes, points and vertices together does to the boxes and points: a small run.

    python benchmarks/joint_dense.py LABELS --out runs/joint --steps 120

Two arms start from the same weights and see the same batches: the detector's losses alone, and the
same with 0.01 L_mesh, gradients reaching the whole network. LABELS is what `data label-mesh` wrote;
photos kept apart are not learned from. Then measure OUT/plain.weights.h5 and OUT/joint.weights.h5 with
`evaluate fddb`, `evaluate landmarks` and `evaluate mesh`. Batch norm keeps its stored statistics.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import keras
import numpy as np
import tensorflow as tf

from retinaface_tf.data.mesh_labels import MeshLabelConfig, read_mesh_labels
from retinaface_tf.data.targets import MatchConfig, encode_targets
from retinaface_tf.geometry.anchors import generate_anchors
from retinaface_tf.geometry.coding import decode_boxes, decode_points
from retinaface_tf.geometry.matching import POSITIVE
from retinaface_tf.inference.images import read_image
from retinaface_tf.losses.mesh import mesh_loss
from retinaface_tf.losses.multitask import LossConfig, multitask_sums
from retinaface_tf.mesh.regression import (
    dense_vertices,
    face_frames,
    sampling_table,
    slots_of_anchors,
    to_frames,
)
from retinaface_tf.mesh.topology import load_topology
from retinaface_tf.pull import load_preset
from retinaface_tf.training.dense_features import held_out_photos
from retinaface_tf.weights import load_weights, save_weights

SIDE, CAP = 256, 24


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("labels", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/joint"))
    parser.add_argument("--model", type=Path, help="start from these weights, not the preset's")
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    labels = read_mesh_labels(options.labels, MeshLabelConfig())
    labels = labels.keep(~held_out_photos(labels.images, 0.1)[labels.image])
    for name, weight in (("plain", 0.0), ("joint", 0.01)):
        if options.model:
            network = load_weights(options.model)
        else:
            network = load_preset("mobilenet0.25-mesh")
        learn(network, labels, weight, options)
        print(save_weights(network, options.out / f"{name}.weights.h5"), flush=True)


def learn(network, labels, mesh_weight: float, options) -> None:
    config, topology = network.config, load_topology()
    anchors = generate_anchors(config.levels, SIDE, SIDE)
    table = sampling_table(config, SIDE, SIDE)
    variances = (config.center_variance, config.size_variance)
    optimizer = keras.optimizers.SGD(options.rate, momentum=0.9, global_clipnorm=5.0)
    variables = network.trainable_variables
    optimizer.build(variables)
    rng = np.random.default_rng(options.seed)
    photos = np.unique(labels.image)

    @tf.function
    def step(images, targets, numbers, picture, wanted, known):
        with tf.GradientTape() as tape:
            outputs = network(images, training=False)
            sums = multitask_sums(outputs, targets, anchors, LossConfig(), variances)
            positives = tf.maximum(tf.reduce_sum(sums.positives), 1.0)
            loss = tf.reduce_sum(sums.class_sum + 0.25 * sums.box_sum + 0.1 * sums.landmark_sum)
            loss = loss / positives
            place = tf.stack([picture, numbers], axis=1)
            own = tf.gather(anchors, numbers)
            boxes = decode_boxes(tf.gather_nd(outputs["box_deltas"], place), own, *variances)
            points = tf.reshape(tf.gather_nd(outputs["landmark_deltas"], place), [-1, 5, 2])
            points = decode_points(points, own, variances[0])
            boxes, points = tf.stop_gradient(boxes), tf.stop_gradient(points)
            maps = [outputs[f"features_{level.stride}"] for level in config.dense_levels]
            rows = [tf.reshape(m, [tf.shape(images)[0], -1, config.channels]) for m in maps]
            weights = {
                n: tf.convert_to_tensor(w) for n, w in network.dense_head.named_weights.items()
            }
            found = dense_vertices(
                tf.reshape(tf.concat(rows, axis=1), [-1, config.channels]),
                picture,
                own,
                slots_of_anchors(config, SIDE, SIDE, numbers),
                boxes,
                points,
                table,
                weights,
                config,
            )
            frames = face_frames(boxes, points)
            # In codes, as landmarks' are.
            codes = [to_frames(v, frames) / variances[0] for v in (found, wanted)]
            mesh = tf.reduce_sum(known * mesh_loss(*codes, topology.triangles))
            mesh = mesh / tf.maximum(tf.reduce_sum(known), 1.0)
            total = loss + mesh_weight * mesh
        optimizer.apply(tape.gradient(total, [v.value for v in variables]), variables)
        return loss, mesh

    for number in range(options.steps):
        batch = make_batch(
            labels, photos[rng.integers(0, len(photos), options.batch)], anchors, config, rng
        )
        values = [float(v) for v in step(*batch)]
        if number % 20 == 0 or number == options.steps - 1:
            print(f"step {number}: detection {values[0]:.4f}, mesh {values[1]:.4f}", flush=True)


def make_batch(labels, photos, anchors, config, rng):
    images, targets, numbers, picture, wanted = [], [], [], [], []
    for place, photo in enumerate(photos):
        mine = np.flatnonzero(labels.image == photo)
        image = read_image(labels.images[photo])
        scale = SIDE / max(image.shape[:2]) * rng.uniform(0.6, 1.0)
        matrix = np.array([[scale, 0, 0], [0, scale, 0]])
        images.append(
            cv2.warpAffine(
                image, matrix, (SIDE, SIDE), flags=cv2.INTER_AREA, borderValue=(123, 117, 104)
            )
        )
        boxes = labels.boxes[mine] * np.float32(scale)
        points = labels.landmarks[mine] * np.float32(scale)
        encoded = encode_targets(
            boxes, points, np.zeros(len(mine), bool), anchors, config, MatchConfig()
        )
        targets.append({k: v.numpy() for k, v in encoded.items()})
        positive = np.flatnonzero(targets[-1]["labels"] == POSITIVE)
        positive = rng.permutation(positive)[: CAP // len(photos)]
        coded = decode_boxes(
            targets[-1]["box_deltas"][positive],
            anchors[positive],
            config.center_variance,
            config.size_variance,
        )
        # Which face an anchor is for: the one whose box its target decodes to.
        face = np.abs(coded[:, None] - boxes[None]).sum(axis=-1).argmin(axis=1)
        numbers += positive.tolist()
        picture += [place] * len(positive)
        wanted += list(labels.vertices[mine[face]] * np.float32(scale))
    count = len(numbers)
    pad = CAP - count
    return (
        tf.constant(np.stack(images)),
        {k: tf.constant(np.stack([t[k] for t in targets])) for k in targets[0]},
        tf.constant(numbers + [0] * pad, tf.int32),
        tf.constant(picture + [0] * pad, tf.int32),
        tf.constant(np.stack(wanted + [np.zeros((1103, 3), np.float32)] * pad), tf.float32),
        tf.constant([1.0] * count + [0.0] * pad),
    )


if __name__ == "__main__":
    main()
