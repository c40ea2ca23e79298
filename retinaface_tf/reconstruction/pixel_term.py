"""L_pixel as training computes it (1905.00641, section 3.2): positives reconstructed, drawn, compared."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from retinaface_tf.config import DenseConfig, RetinaFaceConfig
from retinaface_tf.geometry.bilinear import crop_squares
from retinaface_tf.losses.config import LossConfig
from retinaface_tf.losses.positives import Positives, choose_positives
from retinaface_tf.reconstruction.decoder import load_mesh_decoder
from retinaface_tf.reconstruction.head import (
    FaceParameters,
    FaceReconstruction,
    ReconstructionHead,
    gather_cells,
    interpret,
)

# In units of the network's input, 0..255.
_WHITE = 255.0


class PixelTerm:
    """The reconstruction branch's loss on a batch; it needs no labels but boxes.

    The paper has L_pixel alone. With a fresh head it may draw faces beside their places, where no
    pixel has a useful gradient; the labelled five points have one, and a prior on the code keeps
    shapes face-like. Both are ours, and off unless they have a weight.

    The shipped mesh decoder is frozen; the head is trained, and through it the network.

    Args:
        anchors: float32 [A, 4] of the input's size.

    Attributes:
        branch: the head, a `ReconstructionHead`.
    """

    def __init__(self, network: RetinaFaceConfig, anchors: np.ndarray, config: LossConfig):
        # An anchor's own cell on its own level, whatever the vertices' head reads.
        self.network = dataclasses.replace(network, dense=DenseConfig())
        self.anchors, self.config = np.float32(anchors), config
        slots = sum(len(level.anchor_sizes) for level in network.levels)
        # Drawing needs single precision, whatever the network computes in.
        policy = keras.config.dtype_policy()
        keras.config.set_dtype_policy("float32")
        try:
            self.faces = FaceReconstruction(load_mesh_decoder(), config.pixel_size)
        finally:
            keras.config.set_dtype_policy(policy)
        # An optimiser needs all variables of one type.
        kind = "float64" if policy.name == "float64" else "float32"
        code = self.faces.decoder.config.code
        self.branch = ReconstructionHead(slots, code, name="reconstruction_head", dtype=kind)
        self.branch.build((None, network.channels))

    def __call__(self, batch: dict, outputs: dict, targets: dict):
        """The loss of each image, summed over its positives: float32 [B].

        Args:
            batch: "image" [B, H, W, 3].
            outputs: of the network, with feature maps of all levels.
            targets: "faces" int32 [B, A], "landmark_deltas" and "landmark_mask" (`data.targets`).
        """
        chosen = choose_positives(targets["faces"] >= 0, self.config.pixel_positives)
        # An empty batch cannot be drawn.
        losses = tf.cond(
            tf.size(chosen.anchor) > 0,
            lambda: self._losses(batch["image"], outputs, targets, chosen),
            lambda: tf.zeros([0]),
        )
        return chosen.sum_by_image(losses)

    def _losses(self, images, outputs: dict, targets: dict, chosen: Positives):
        squares = tf.gather(self.anchors, chosen.anchor)
        maps = {n: tf.cast(v, tf.float32) for n, v in outputs.items() if n.startswith("features_")}
        features, slots = gather_cells(
            maps, self.network, chosen.image, squares, chosen.anchor, images.shape[1:3]
        )
        parameters = interpret(tf.cast(self.branch(features, slots), tf.float32))
        mesh = self.faces.mesh(parameters)
        crops = crop_squares(images, chosen.image, squares, self.config.pixel_size) / _WHITE
        losses = self.faces.loss(parameters, crops, mesh)
        if self.config.pixel_points_weight:
            gap = self._points_gap(parameters, mesh, targets, chosen)
            losses += self.config.pixel_points_weight * gap
        if self.config.pixel_prior_weight:
            prior = tf.reduce_mean(parameters.code**2, axis=-1)
            losses += self.config.pixel_prior_weight * prior
        return _WHITE * losses

    def _points_gap(self, parameters: FaceParameters, mesh, targets: dict, chosen: Positives):
        """Mean distance of the labelled points, in parts of the anchor's side: [K], 0 without any."""
        codes = tf.reshape(chosen.take(targets["landmark_deltas"]), [-1, 5, 2])
        known = tf.cast(chosen.take(targets["landmark_mask"]), tf.float32)
        # The codes count from the anchor's middle, the drawn points from its corner.
        wanted = 0.5 + self.network.center_variance * tf.cast(codes, tf.float32)
        gap = self.faces.points(parameters, mesh) - wanted
        # The root has no slope at 0.
        distance = tf.sqrt(tf.reduce_sum(gap**2, axis=-1) + 1e-12)
        return tf.math.divide_no_nan(
            tf.reduce_sum(known * distance, axis=-1), tf.reduce_sum(known, axis=-1)
        )
