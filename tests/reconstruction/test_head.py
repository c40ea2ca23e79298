"""The arXiv paper's dense branch from end to end: a head on a frozen detector learns by L_pixel."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from retinaface_tf.config import DenseConfig
from retinaface_tf.geometry.anchors import generate_anchors
from retinaface_tf.geometry.bilinear import crop_squares
from retinaface_tf.geometry.boxes import corners_to_center, pairwise_iou
from retinaface_tf.mesh.topology import load_topology
from retinaface_tf.models.retinaface import add_dense_branch, build_retinaface
from retinaface_tf.reconstruction.decoder import MeshDecoderConfig, build_mesh_decoder
from retinaface_tf.reconstruction.head import (
    FaceReconstruction,
    ReconstructionHead,
    gather_cells,
    interpret,
)
from training.decoder.synthetic_meshes import random_albedos

SIZE = 32


@pytest.fixture(scope="module")
def reconstruction():
    """A small decoder that knows a mean skin and answers its codes."""
    decoder = build_mesh_decoder(MeshDecoderConfig(code=16, channels=(16, 16), order=2))
    skin = random_albedos(load_topology(), 1, np.random.default_rng(0))[0]
    mean = decoder.get_layer("mean_face").mean
    mean.assign(np.concatenate([mean[:, :3], skin], axis=1))
    rng = np.random.default_rng(1)
    kernel = decoder.get_layer("difference").kernel
    kernel.assign(rng.normal(0, 0.3, kernel.shape))
    return FaceReconstruction(decoder, SIZE)


def test_zeros_are_a_face_that_looks_ahead_and_fills_its_crop(reconstruction):
    parameters = interpret(tf.zeros((1, 32)))
    rendering = reconstruction.render(parameters)
    rows, columns = np.nonzero(rendering.coverage[0, ..., 0].numpy() > 0.5)
    assert rows.min() <= 4 and rows.max() >= SIZE - 5
    assert columns.min() in range(1, 8) and columns.max() in range(SIZE - 8, SIZE - 1)
    points = reconstruction.points(parameters)[0].numpy()
    eyes, nose, mouth = points[:2], points[2], points[3:]
    assert eyes[0, 0] < nose[0] < eyes[1, 0] and mouth[0, 0] < nose[0] < mouth[1, 0]
    assert eyes[:, 1].max() < nose[1] < mouth[:, 1].min()
    assert 0.1 < float(np.mean(rendering.image)) < 0.9


def test_every_number_moves_the_image(reconstruction):
    numbers = tf.Variable(np.random.default_rng(2).normal(0, 0.3, (1, 32)).astype("float32"))
    with tf.GradientTape() as tape:
        crops = tf.random.stateless_uniform((1, SIZE, SIZE, 3), seed=(1, 2))
        loss = reconstruction.loss(interpret(numbers), crops)
    assert (tf.abs(tape.gradient(loss, numbers)) > 1e-7).numpy().all()


def positives(network, image, box):
    """Anchors with IoU > 0.5 with the face: [N, 4], and their numbers."""
    anchors = generate_anchors(network.config.levels, *image.shape[:2])
    corners = np.concatenate(
        [anchors[:, :2] - anchors[:, 2:] / 2, anchors[:, :2] + anchors[:, 2:] / 2], axis=1
    )
    chosen = np.flatnonzero(pairwise_iou(corners, np.array([box], np.float32))[:, 0] > 0.5)
    return anchors[chosen].astype(np.float32), chosen.astype(np.int32)


def test_gathered_cells_are_what_a_1x1_convolution_reads(rng):
    network = add_dense_branch(build_retinaface("mobilenet0.25"), DenseConfig())
    image = rng.integers(0, 256, (2, 128, 160, 3)).astype(np.uint8)
    outputs = network(image)
    anchors = generate_anchors(network.config.levels, 128, 160).astype(np.float32)
    numbers = np.array([5, 600, 601, len(anchors) - 1], np.int32)
    owner = np.array([0, 1, 0, 1], np.int32)
    features, slots = gather_cells(
        outputs, network.config, owner, anchors[numbers], numbers, (128, 160)
    )
    for i, number in enumerate(numbers):
        stride = {0: 8, 1: 16, 2: 32}[int(slots[i]) // 2]
        column, row = (anchors[number, :2] / stride).astype(int)
        cell = outputs[f"features_{stride}"][owner[i], row, column]
        np.testing.assert_allclose(features[i], cell, rtol=1e-5)


@pytest.mark.slow
def test_a_few_steps_on_a_photo_lower_the_pixel_loss(reconstruction, public_weights, astronaut):
    """Detector and decoder stay as they are; the head alone learns, from the photo alone."""
    network = build_retinaface("mobilenet0.25")
    network.load_weights(public_weights)
    extended = add_dense_branch(network, DenseConfig())
    image = astronaut[None, :256, 96:352]
    before = [w.numpy().copy() for w in (*network.weights, *reconstruction.decoder.weights)]
    anchors, numbers = positives(network, image[0], (83, 54, 178, 185))
    anchors, numbers = anchors[::3][:4], numbers[::3][:4]
    assert len(anchors) >= 2
    owner = np.zeros(len(anchors), np.int32)
    outputs = extended(image)
    features, slots = gather_cells(
        outputs, extended.config, owner, anchors, numbers, image.shape[1:3]
    )
    crops = crop_squares(image, owner, anchors, SIZE) / 255.0
    head = ReconstructionHead(slots=6, code=16)
    head(features, slots)
    optimizer = keras.optimizers.Adam(0.01)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(reconstruction.loss(interpret(head(features, slots)), crops))
        gradients = tape.gradient(loss, head.trainable_weights)
        optimizer.apply(gradients, head.trainable_weights)
        return loss

    losses = [float(step()) for _ in range(30)]
    assert losses[-1] < 0.7 * losses[0], losses
    after = (*network.weights, *reconstruction.decoder.weights)
    assert all((b == w.numpy()).all() for b, w in zip(before, after))
    plain = network(image)
    for name in ("class_logits", "box_deltas", "landmark_deltas"):
        np.testing.assert_array_equal(plain[name], outputs[name])


def test_square_of_the_anchor_is_what_is_compared():
    """`corners_to_center` and the crops agree about where an anchor is."""
    image = np.zeros((1, 64, 64, 3), np.uint8)
    image[:, 16:32, 32:48] = 255
    square = corners_to_center(np.array([[32, 16, 48, 32]], np.float32))
    crop = crop_squares(image, np.zeros(1, np.int32), square, 16, 1)
    np.testing.assert_array_equal(crop, 255)
