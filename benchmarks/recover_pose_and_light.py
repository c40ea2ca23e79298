"""Recovers a known pose and light from an image by gradient descent through the renderer.

    python benchmarks/recover_pose_and_light.py [--out recovered.png] [--steps 300] [--size 96]

A synthetic face is drawn with one camera and light; another camera (turned, moved, of other focal length)
and light are then changed, by Adam on the mean absolute difference of the images alone, until they
agree. Prints errors before and after, and writes the images side by side: target, start, and result
for each of several faces.
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

BACKGROUND = 0.25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("recovered.png"))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--faces", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started = time.perf_counter()
    result = recover(options.faces, options.size, options.steps, options.seed)
    print(f"{options.faces} faces, {options.steps} steps: {time.perf_counter() - started:.0f} s")
    print(f"{'':26s}{'before':>10s}{'after':>10s}")
    for name, before, after in result["errors"]:
        print(f"{name:26s}{before:10.4f}{after:10.4f}")
    write_image(options.out, result["images"])
    print(f"image: {options.out}")


def scene(faces: int, rng):
    """Meshes, albedos and the true and first raw parameters [faces, 16]."""
    from retinaface_tf.mesh.topology import load_topology
    from retinaface_tf.reconstruction.head import FACE_CENTER
    from training.decoder.synthetic_meshes import random_albedos, random_shapes

    topology = load_topology()
    shapes = random_shapes(topology, faces, rng) - np.float32(FACE_CENTER)
    albedos = random_albedos(topology, faces, rng)
    truth = rng.normal(0, 0.5, (faces, 16))
    start = np.zeros_like(truth)
    # Some 30 degrees of turn, an eighth of the crop aside, lit from another side.
    truth[:, 3:6] = rng.normal(0, (0.5, 1.0, 0.4), (faces, 3))
    truth[:, 7:10] = rng.normal(0, 2, (faces, 3))
    return topology, shapes, albedos, truth.astype(np.float32), start.astype(np.float32)


def recover(faces: int, size: int, steps: int, seed: int) -> dict:
    """Runs the descent; errors before and after, and the images."""
    import keras
    import tensorflow as tf

    from retinaface_tf.reconstruction.head import interpret, pixel_loss
    from retinaface_tf.reconstruction.renderer import MeshRenderer

    rng = np.random.default_rng(seed)
    topology, shapes, albedos, truth, start = scene(faces, rng)
    renderer = MeshRenderer(topology.triangles, topology.num_vertices, size)
    background = tf.fill((faces, size, size, 3), BACKGROUND)

    @tf.function
    def draw(numbers):
        _, camera, light = interpret(numbers)
        return renderer(shapes, albedos, camera, light, background).image

    target = draw(tf.constant(truth))
    numbers = tf.Variable(start)
    schedule = keras.optimizers.schedules.CosineDecay(0.05, steps)
    optimizer = keras.optimizers.Adam(schedule, beta_2=0.95)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            losses = pixel_loss(draw(numbers), target)
            loss = tf.reduce_sum(losses)
        optimizer.apply([tape.gradient(loss, numbers)], [numbers])

    first = draw(numbers)
    for _ in range(steps):
        step()
    last = draw(numbers)
    before, after = measure(start, first, truth, target), measure(numbers, last, truth, target)
    errors = [(name, before[name], after[name]) for name in before]
    drawn = [np.asarray(images) for images in (target, first, last)]
    return {"errors": errors, "images": drawn}


def measure(numbers, image, truth, target) -> dict:
    """Mean errors over the faces, in units of the field."""
    from scipy.spatial.transform import Rotation

    from retinaface_tf.reconstruction.head import interpret

    (_, camera, light), (_, true_camera, true_light) = interpret(numbers), interpret(truth)
    turn = Rotation.from_rotvec(np.asarray(camera.pose)).inv()
    turn = turn * Rotation.from_rotvec(np.asarray(true_camera.pose))
    scale = [
        np.asarray(c.focal)[:, 0] / np.asarray(c.position)[:, 2] for c in (camera, true_camera)
    ]
    center = [
        s[:, None] * np.asarray(c.position)[:, :2] for s, c in zip(scale, (camera, true_camera))
    ]
    # The direction of the light, as seen from the face.
    ways = [
        np.asarray(one.position) - np.asarray(c.position)
        for one, c in ((light, camera), (true_light, true_camera))
    ]
    ways = [way / np.linalg.norm(way, axis=1, keepdims=True) for way in ways]
    angle = np.degrees(np.arccos(np.clip((ways[0] * ways[1]).sum(1), -1, 1)))
    colors = [np.concatenate([one.color, one.ambient], axis=1) for one in (light, true_light)]
    return {
        "L_pixel": float(np.abs(np.asarray(image) - np.asarray(target)).mean()),
        "pose, degrees": float(np.degrees(turn.magnitude()).mean()),
        "place, % of the crop": float(50 * np.linalg.norm(center[0] - center[1], axis=1).mean()),
        "size, %": float(100 * np.abs(scale[0] / scale[1] - 1).mean()),
        "light direction, degrees": float(angle.mean()),
        "light and ambient colour": float(np.abs(colors[0] - colors[1]).mean()),
    }


def write_image(path: Path, rows) -> None:
    """Columns target, start, result; a row for each face, twice as large."""
    from PIL import Image

    image = np.concatenate([np.concatenate(list(row), axis=0) for row in rows], axis=1)
    pixels = np.uint8(np.clip(image, 0, 1) * 255)
    Image.fromarray(pixels).resize((pixels.shape[1] * 2, pixels.shape[0] * 2), 0).save(path)


if __name__ == "__main__":
    main()
