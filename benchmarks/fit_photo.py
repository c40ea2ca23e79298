"""Fits the arXiv branch's numbers to one face of a photo: shape, skin, camera and light by L_pixel.

    python benchmarks/fit_photo.py [PHOTO] [--decoder decoder.npz] [--out fit.png] [--steps 300]

The face is found by the detector, its box is the crop. 144 numbers start at zero (the mean face looking
ahead) and descend L_pixel plus the distance to the detector's five points. Without a photo, NASA's portrait
that scikit-image brings (public domain). The image shows: the crop; the start, the result over the crop;
the result alone, turned by 40 degrees, and in another light.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("photo", type=Path, nargs="?")
    parser.add_argument("--decoder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("fit.png"))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--code-weight", type=float, default=0.005)
    options = parser.parse_args()
    crop, points = find_face(options.photo, options.size)
    rows, text = fit(crop, points, options)
    print(text)
    write(options.out, rows)
    print(f"image: {options.out}")


def find_face(photo: Path | None, size: int):
    """The best face's square crop [1, S, S, 3] 0..1 and its points [1, 5, 2] in parts of the side."""
    from retinaface_tf import RetinaFace
    from retinaface_tf.geometry.bilinear import crop_squares
    from retinaface_tf.images.read import read_image

    if photo is None:
        from skimage.data import astronaut

        image = astronaut()
    else:
        image = read_image(photo)
    faces = RetinaFace.from_preset("mobilenet0.25").detect(image)
    if not len(faces):
        sys.exit(f"error: no face was found in {photo}.")
    box = faces.boxes[0]
    side = float(max(box[2:] - box[:2]))
    square = np.array([[*(box[:2] + box[2:]) / 2, side, side]], np.float32)
    samples = max(1, round(side / size))
    crop = np.asarray(crop_squares(image[None], np.zeros(1, np.int32), square, size, samples)) / 255
    points = (faces.landmarks[:1] - (square[:, None, :2] - side / 2)) / side
    return crop.astype(np.float32), points.astype(np.float32)


def fit(crop, points, options):
    import keras
    import tensorflow as tf

    from retinaface_tf.reconstruction.decoder import load_mesh_decoder
    from retinaface_tf.reconstruction.head import FaceReconstruction, interpret

    faces = FaceReconstruction(load_mesh_decoder(options.decoder), options.size)
    width = faces.decoder.config.code + 16
    numbers = tf.Variable(np.zeros((1, width), np.float32))
    schedule = keras.optimizers.schedules.CosineDecay(0.05, options.steps)
    optimizer = keras.optimizers.Adam(schedule, beta_2=0.95)

    @tf.function
    def losses(numbers):
        parameters = interpret(numbers)
        mesh = faces.mesh(parameters)
        gap = tf.reduce_mean(
            tf.norm(faces.points(parameters, mesh) - points + 1e-9, axis=-1), axis=-1
        )
        prior = tf.reduce_mean(parameters.code**2, axis=-1)
        return faces.loss(parameters, crop, mesh)[0], gap[0], prior[0]

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            pixel, gap, prior = losses(numbers)
            loss = pixel + gap + options.code_weight * prior
        optimizer.apply([tape.gradient(loss, numbers)], [numbers])

    first, start = losses(numbers), faces.render(interpret(numbers), crop).image
    for _ in range(options.steps):
        step()
    last, parameters = losses(numbers), interpret(numbers)
    turned = parameters.camera.pose + np.float32([[0, 0.7, 0]])
    lit = parameters.lighting._replace(
        position=np.float32([[-3, -1, 3.5]]), color=np.full((1, 3), 0.9, np.float32)
    )
    lit = lit._replace(ambient=np.full((1, 3), 0.15, np.float32))
    views = [
        faces.render(parameters),
        faces.render(parameters._replace(camera=parameters.camera._replace(pose=turned))),
        faces.render(parameters._replace(lighting=lit)),
    ]
    images = [crop, start, faces.render(parameters, crop).image, *(view.image for view in views)]
    pose = np.degrees(np.asarray(parameters.camera.pose))[0]
    text = (
        f"L_pixel {float(first[0]):.4f} -> {float(last[0]):.4f}, five points "
        f"{100 * float(first[1]):.1f} % -> {100 * float(last[1]):.1f} % of the crop, "
        f"rotation vector {pose.round(1).tolist()} degrees, "
        f"code's mean square {float(last[2]):.2f}"
    )
    return [np.asarray(image)[0] for image in images], text


def write(path: Path, images) -> None:
    from PIL import Image

    pixels = np.uint8(np.clip(np.concatenate(images, axis=1), 0, 1) * 255)
    Image.fromarray(pixels).resize((pixels.shape[1] * 2, pixels.shape[0] * 2), 0).save(path)


if __name__ == "__main__":
    main()
