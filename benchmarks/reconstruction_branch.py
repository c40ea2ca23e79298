"""Trains the arXiv branch's head on photos with the detector frozen, and measures it on other photos.

    python benchmarks/reconstruction_branch.py FOLDER [--decoder decoder.npz] [--steps 400] [--out sheet.png]

Every photo's surest face gives up to two anchors: the features of their cells, their crops and the five
points. A 1x1 head on the features learns by L_pixel, the distance of the mesh's five points from the
detector's, and a weak prior on the code; decoder and detector stay as they are. Every tenth photo is held
out; "zeros" is the fresh head's answer, the mean face looking ahead. The sheet shows held-out crops, zeros,
and the trained head's faces over them.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

SIZE = 48


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--decoder", type=Path)
    parser.add_argument("--photos", type=int, default=800)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--out", type=Path, default=Path("branch.png"))
    options = parser.parse_args()
    started = time.perf_counter()
    examples, held_out, network = gather(options.folder, options.photos)
    print(
        f"{(~held_out).sum()} anchors to learn from, {held_out.sum()} held out, "
        f"{time.perf_counter() - started:.0f} s"
    )
    train(examples, held_out, network, options)


def gather(folder: Path, count: int):
    """Features, slots, crops and points of anchors, which of them are held out, and the network."""
    import tensorflow as tf

    from retinaface_tf import RetinaFace
    from retinaface_tf.config import DenseConfig
    from retinaface_tf.geometry.anchors import generate_anchors
    from retinaface_tf.geometry.bilinear import crop_squares
    from retinaface_tf.geometry.box_coding import decode_boxes, decode_points
    from retinaface_tf.images.read import read_image
    from retinaface_tf.models.retinaface import add_dense_branch
    from retinaface_tf.reconstruction.head import gather_cells

    detector = RetinaFace.from_preset("mobilenet0.25", runtime="keras")
    network = add_dense_branch(detector.runtime.model, DenseConfig())
    look = tf.function(network, input_signature=[tf.TensorSpec((None, None, None, 3), "uint8")])
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".png"))
    paths = [paths[i * len(paths) // count] for i in range(count)] if len(paths) > count else paths
    rows, held_out = [], []
    for number, path in enumerate(paths):
        image = read_image(path)
        outputs = look(image[None])
        logits = outputs["class_logits"][0].numpy()
        scores = 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))
        best = np.argsort(-scores)[:2].astype(np.int32)
        best = best[scores[best] > 0.9]
        if not len(best):
            continue
        anchors = generate_anchors(network.config.levels, *image.shape[:2])[best]
        boxes = decode_boxes(outputs["box_deltas"][0].numpy()[best], anchors)
        points = decode_points(
            outputs["landmark_deltas"][0].numpy()[best].reshape(-1, 5, 2), anchors
        )
        # An anchor that is too small or too large for its face would not be a positive.
        ratio = np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)) / anchors[:, 2]
        good = (ratio > 0.7) & (ratio < 1.4) & (anchors[:, 2] >= 32)
        best, anchors, points = best[good], anchors[good].astype(np.float32), points[good]
        if not len(best):
            continue
        owner = np.zeros(len(best), np.int32)
        features, slots = gather_cells(
            outputs, network.config, owner, anchors, best, image.shape[:2]
        )
        crops = crop_squares(image[None], owner, anchors, SIZE, 3)
        corner = anchors[:, None, :2] - anchors[:, None, 2:] / 2
        inside = (points - corner) / anchors[:, None, 2:]
        rows.append((features.numpy(), slots.numpy(), crops.numpy() / 255, np.float32(inside)))
        held_out += [number % 10 == 0] * len(best)
    return [np.concatenate(part) for part in zip(*rows)], np.array(held_out), network


def train(examples, held_out, network, options) -> None:
    import keras
    import tensorflow as tf

    from retinaface_tf.reconstruction.decoder import load_mesh_decoder
    from retinaface_tf.reconstruction.head import FaceReconstruction, ReconstructionHead, interpret

    features, slots, crops, points = examples
    mean, scale = features[~held_out].mean(0), features[~held_out].std(0) + 1e-3
    features = (features - mean) / scale
    faces = FaceReconstruction(load_mesh_decoder(options.decoder), SIZE)
    head = ReconstructionHead(slots=6, code=faces.decoder.config.code)
    head(features[:1], slots[:1])
    schedule = keras.optimizers.schedules.CosineDecay(5e-3, options.steps)
    optimizer = keras.optimizers.Adam(schedule)

    def losses(features, slots, crops, points):
        parameters = interpret(head(features, slots))
        mesh = faces.mesh(parameters)
        gap = tf.reduce_mean(
            tf.norm(faces.points(parameters, mesh) - points + 1e-9, axis=-1), axis=-1
        )
        return faces.loss(parameters, crops, mesh), gap, tf.reduce_mean(parameters.code**2, axis=-1)

    @tf.function(reduce_retracing=True)
    def step(*batch):
        with tf.GradientTape() as tape:
            pixel, gap, prior = losses(*batch)
            loss = tf.reduce_mean(pixel + gap + 0.01 * prior)
        gradients = tape.gradient(loss, head.trainable_weights)
        optimizer.apply(gradients, head.trainable_weights)

    def measure(chosen):
        parts = [
            losses(features[i], slots[i], crops[i], points[i])
            for i in np.array_split(np.flatnonzero(chosen), max(1, chosen.sum() // 32))
        ]
        return [np.concatenate([part[k] for part in parts]).mean() for k in range(2)]

    rng = np.random.default_rng(0)
    trained = np.flatnonzero(~held_out)
    sample = np.zeros(len(held_out), bool)
    sample[rng.choice(trained, min(len(trained), 128), replace=False)] = True
    before = measure(sample), measure(held_out)
    shown = np.flatnonzero(held_out)[:: max(1, held_out.sum() // 12)][:12]

    def over():
        parameters = interpret(head(features[shown], slots[shown]))
        return np.asarray(faces.render(parameters, crops[shown]).image)

    rows = [crops[shown], over()]
    started = time.perf_counter()
    for _ in range(options.steps):
        i = rng.choice(trained, options.batch)
        step(features[i], slots[i], crops[i], points[i])
    print(f"{options.steps} steps: {time.perf_counter() - started:.0f} s")
    after = measure(sample), measure(held_out)
    rows.append(over())
    print(f"{'':28s}{'zeros':>10s}{'trained':>10s}")
    for k, name in enumerate(("L_pixel", "five points, % of anchor")):
        for j, part in enumerate(("trained on", "held out")):
            unit = (1, 100)[k]
            print(f"{name + ', ' + part:36s}{unit * before[j][k]:8.3f}{unit * after[j][k]:10.3f}")
    write(options.out, rows)
    print(f"image: {options.out}")


def write(path: Path, rows) -> None:
    from PIL import Image

    image = np.concatenate([np.concatenate(list(row), axis=1) for row in rows])
    pixels = np.uint8(np.clip(image, 0, 1) * 255)
    Image.fromarray(pixels).resize((pixels.shape[1] * 2, pixels.shape[0] * 2), 0).save(path)


if __name__ == "__main__":
    main()
