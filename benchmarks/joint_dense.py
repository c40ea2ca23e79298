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
from retinaface_tf.inference.images import read_image
from retinaface_tf.losses.multitask import LossConfig, multitask_sums
from retinaface_tf.mesh.topology import load_topology
from retinaface_tf.pull import load_preset
from retinaface_tf.training.dense_features import held_out_photos
from retinaface_tf.training.mesh_term import MeshTerm
from retinaface_tf.weights import load_weights, save_weights

SIDE, OF_PICTURE = 256, 3


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
    variances = (config.center_variance, config.size_variance)
    optimizer = keras.optimizers.SGD(options.rate, momentum=0.9, global_clipnorm=5.0)
    variables = network.trainable_variables
    optimizer.build(variables)
    rng = np.random.default_rng(options.seed)
    photos = np.unique(labels.image)

    term = MeshTerm(
        network, anchors, LossConfig(mesh_weight=0.01, mesh_positives=OF_PICTURE), topology
    )

    @tf.function(reduce_retracing=True)
    def step(batch):
        with tf.GradientTape() as tape:
            outputs = network(batch["image"], training=False)
            sums = multitask_sums(outputs, batch, anchors, LossConfig(), variances)
            positives = tf.maximum(tf.reduce_sum(sums.positives), 1.0)
            loss = tf.reduce_sum(sums.class_sum + 0.25 * sums.box_sum + 0.1 * sums.landmark_sum)
            loss = loss / positives
            mesh = tf.reduce_sum(term(batch, outputs, batch)) / positives
            total = loss + mesh_weight * mesh
        optimizer.apply(tape.gradient(total, [v.value for v in variables]), variables)
        return loss, mesh

    for number in range(options.steps):
        batch = make_batch(
            labels, photos[rng.integers(0, len(photos), options.batch)], anchors, config, rng
        )
        values = [float(v) for v in step(batch)]
        if number % 20 == 0 or number == options.steps - 1:
            print(f"step {number}: detection {values[0]:.4f}, mesh {values[1]:.4f}", flush=True)


def make_batch(labels, photos, anchors, config, rng):
    pictures, most = [], max(int((labels.image == photo).sum()) for photo in photos)
    for photo in photos:
        mine = np.flatnonzero(labels.image == photo)
        image = read_image(labels.images[photo])
        scale = np.float32(SIDE / max(image.shape[:2]) * rng.uniform(0.6, 1.0))
        matrix = np.array([[scale, 0, 0], [0, scale, 0]])
        pixels = cv2.warpAffine(
            image, matrix, (SIDE, SIDE), flags=cv2.INTER_AREA, borderValue=(123, 117, 104)
        )
        boxes, points = labels.boxes[mine] * scale, labels.landmarks[mine] * scale
        targets = encode_targets(
            boxes, points, np.zeros(len(mine), bool), anchors, config, MatchConfig()
        )
        empty = np.zeros((most - len(mine), *labels.vertices.shape[1:]), np.float32)
        meshes = np.where(np.arange(most) < len(mine), np.arange(most), -1).astype(np.int32)
        vertices = np.concatenate([labels.vertices[mine] * scale, empty])
        pictures.append({"image": pixels, "meshes": meshes, "vertices": vertices, **targets})
    return {name: tf.stack([picture[name] for picture in pictures]) for name in pictures[0]}


if __name__ == "__main__":
    main()
