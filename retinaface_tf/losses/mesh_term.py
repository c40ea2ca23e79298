"""L_mesh as training computes it (CVPR 2020, section 3.3): vertices of positives, never of all anchors."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from retinaface_tf.geometry.box_coding import decode_boxes, decode_points
from retinaface_tf.layers.dense_frames import (
    sampling_table,
    slots_of_anchors,
    stacked_cells,
    to_frames,
    vertices_in_frames,
)
from retinaface_tf.losses.mesh import mesh_loss
from retinaface_tf.losses.multitask import LossConfig
from retinaface_tf.losses.positives import choose_positives
from retinaface_tf.mesh.topology import MeshTopology
from retinaface_tf.models import RetinaFaceNetwork

# Deltas beyond this are wild boxes: their exponential shall stay a number.
_MAX_DELTA = 40.0


class MeshTerm:
    """The dense head's loss on a batch: L_vert + L_edge in the deltas' units, as landmarks have them.

    Faces without a mesh add nothing. Where a network frames faces by its own boxes and points,
    those are constants: the mesh does not teach them through its frame.

    Args:
        network: with a dense branch.
        anchors: float32 [A, 4] of the input's size.
        config: `edge_weight` and `mesh_positives`.
        topology: whose triangles have the edges.

    Attributes:
        branch: None, as the head is the network's own.
    """

    branch = None

    def __init__(
        self,
        network: RetinaFaceNetwork,
        anchors: np.ndarray,
        config: LossConfig,
        topology: MeshTopology,
    ):
        self.network, self.anchors, self.config = network, np.array(anchors), config
        self.triangles = topology.triangles

    def __call__(self, batch: dict, outputs: dict, targets: dict):
        """The loss of each image, summed over its positives: [B], float64 for such a network.

        Args:
            batch: "image" [B, H, W, 3], "meshes" int32 [B, F], each face's row of "vertices"
                [B, M, V, 3] in pixels, or -1.
            outputs: of the network.
            targets: "faces" int32 [B, A] (`data.targets`).
        """
        config = self.network.config
        rows = rows_of_anchors(targets["faces"], batch["meshes"])
        chosen = choose_positives(rows >= 0, self.config.mesh_positives)
        height, width = batch["image"].shape[1:3]
        variances = (config.center_variance, config.size_variance)
        # At least single precision, whatever the network computes in.
        double = outputs["box_deltas"].dtype == tf.float64
        dtype = tf.float64 if double else tf.float32

        def read(name):
            return tf.cast(chosen.take(outputs[name]), dtype)

        own = tf.cast(tf.gather(self.anchors, chosen.anchor), dtype)
        deltas = tf.clip_by_value(tf.stop_gradient(read("box_deltas")), -_MAX_DELTA, _MAX_DELTA)
        points = tf.reshape(tf.stop_gradient(read("landmark_deltas")), [-1, 5, 2])
        maps = [outputs[f"features_{level.stride}"] for level in config.dense_levels]
        weights = self.network.dense_head.named_weights
        found, frames = vertices_in_frames(
            tf.cast(stacked_cells(maps), dtype),
            chosen.image,
            own,
            slots_of_anchors(config, height, width, chosen.anchor),
            decode_boxes(deltas, own, *variances),
            decode_points(points, own, variances[0]),
            sampling_table(config, height, width),
            {name: tf.cast(weight.value, dtype) for name, weight in weights.items()},
            config,
        )
        row = tf.stack([chosen.image, chosen.take(rows)], axis=1)
        wanted = to_frames(tf.cast(tf.gather_nd(batch["vertices"], row), dtype), frames)
        losses = mesh_loss(
            found / variances[0], wanted / variances[0], self.triangles, self.config.edge_weight
        )
        return chosen.sum_by_image(losses)


def rows_of_anchors(faces, meshes):
    """int32 [B, A]: the row of each positive anchor's mesh, -1 where there is none.

    Args:
        faces: int32 [B, A], which face an anchor is for, or -1.
        meshes: int32 [B, F], each face's row, or -1.
    """
    # One more face, without a mesh, is what an anchor without a face is for.
    meshes = tf.pad(meshes, [[0, 0], [0, 1]], constant_values=-1)
    nobody = tf.shape(meshes)[1] - 1
    return tf.gather(meshes, tf.where(faces < 0, nobody, faces), batch_dims=1)
