"""L_pixel as training computes it (1905.00641, section 3.2): positives reconstructed, drawn, compared."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from retinaface_tf.config import DenseConfig, RetinaFaceConfig
from retinaface_tf.geometry.crops import crop_squares
from retinaface_tf.losses.multitask import LossConfig
from retinaface_tf.models.mesh_decoder import load_mesh_decoder
from retinaface_tf.models.reconstruction import (
    FaceReconstruction,
    ReconstructionHead,
    gather_cells,
    interpret,
)
from retinaface_tf.training.positives import Positives, choose_positives

# The photo's own units: its pixels are the network's input.
_WHITE = 255.0


class PixelTerm:
    """The reconstruction branch's loss on a batch; it needs no labels but boxes.

    The shipped mesh decoder stays as it is; its head learns, and through it the network.

    Args:
        network: what the feature maps are of.
        anchors: float32 [A, 4] of the input's size.
        config: `pixel_positives` and `pixel_size`.

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
            code = self.faces.decoder.config.code
            self.branch = ReconstructionHead(slots, code, name="reconstruction_head")
            self.branch.build((None, network.channels))
        finally:
            keras.config.set_dtype_policy(policy)

    def __call__(self, batch: dict, outputs: dict, targets: dict):
        """The loss of each picture, summed over its positives: float32 [B].

        Args:
            batch: "image" [B, H, W, 3].
            outputs: of the network, with feature maps of all levels.
            targets: "faces" int32 [B, A] (`data.targets`).
        """
        chosen = choose_positives(targets["faces"] >= 0, self.config.pixel_positives)
        # Nothing cannot be drawn.
        losses = tf.cond(
            tf.size(chosen.anchor) > 0,
            lambda: self._losses(batch["image"], outputs, chosen),
            lambda: tf.zeros([0]),
        )
        return chosen.sum_by_picture(losses)

    def _losses(self, images, outputs: dict, chosen: Positives):
        squares = tf.gather(self.anchors, chosen.anchor)
        features, slots = gather_cells(
            outputs, self.network, chosen.picture, squares, chosen.anchor, images.shape[1:3]
        )
        parameters = interpret(self.branch(tf.cast(features, tf.float32), slots))
        crops = crop_squares(images, chosen.picture, squares, self.config.pixel_size) / _WHITE
        return _WHITE * self.faces.loss(parameters, crops)
