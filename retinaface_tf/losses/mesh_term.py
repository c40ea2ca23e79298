"""L_mesh as training computes it (CVPR 2020, section 3.3): vertices of positives, never of all anchors."""

import numpy as np
from keras import backend, ops

from retinaface_tf.geometry.box_coding import decode_boxes, decode_points
from retinaface_tf.layers.dense_frames import to_frames, vertices_in_frames
from retinaface_tf.losses.config import LossConfig
from retinaface_tf.losses.multitask import limit_deltas
from retinaface_tf.losses.positives import choose_positives, rows_of_anchors
from retinaface_tf.mesh.topology import MeshTopology
from retinaface_tf.models import RetinaFaceNetwork


def vertex_loss(vertices, target):
    """L_vert: mean over vertices of the L1 distance (sum over x, y, z): [K, V, 3] twice -> [K]."""
    return ops.mean(ops.sum(ops.abs(vertices - target), axis=-1), axis=-1)


def edge_loss(vertices, target, triangles):
    """L_edge: mean over the triangles' 3M edges of the difference in length.

    Args:
        vertices, target: [K, V, 3].
        triangles: int [M, 3]; an edge between two triangles counts twice, as in the paper.

    Returns:
        [K].
    """
    difference = edge_lengths(vertices, triangles) - edge_lengths(target, triangles)
    return ops.mean(ops.abs(difference), axis=-1)


def edge_lengths(vertices, triangles):
    """[K, V, 3] -> [K, 3M]: every triangle's first to second, second to third, third to first."""
    corners = ops.take(vertices, ops.reshape(ops.convert_to_tensor(triangles), (-1,)), axis=1)
    corners = ops.reshape(corners, (-1, len(triangles), 3, 3))
    edges = corners - ops.roll(corners, -1, axis=2)
    # The square root has no slope at 0, where an edge's vertices coincide.
    squared = ops.maximum(ops.sum(edges * edges, axis=-1), 1e-12)
    return ops.reshape(ops.sqrt(squared), (-1, 3 * len(triangles)))


def mesh_loss(vertices, target, triangles, edge_weight: float = 1.0):
    """L_mesh = L_vert + lambda_0 L_edge, of each face: [K]."""
    return vertex_loss(vertices, target) + edge_weight * edge_loss(vertices, target, triangles)


class MeshTerm:
    """The dense head's loss on a batch: L_vert + L_edge in units of the deltas, as landmarks have them.

    Faces without a mesh add nothing. Where a network frames faces by its own boxes and points,
    those are constants: the mesh does not teach them through its frame.

    Args:
        anchors: float32 [A, 4] of the input's size.

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
            targets: "faces" int32 [B, A] (`data.targets`).
        """
        config = self.network.config
        rows = rows_of_anchors(targets["faces"], batch["meshes"])
        chosen = choose_positives(rows >= 0, self.config.mesh_positives)
        variances = (config.center_variance, config.size_variance)
        # At least single precision, whatever the network computes in.
        double = backend.standardize_dtype(outputs["box_deltas"].dtype) == "float64"
        dtype = "float64" if double else "float32"

        def predicted(name):
            return ops.stop_gradient(ops.cast(chosen.take(outputs[name]), dtype))

        anchors = ops.cast(self.anchors, dtype)
        own = ops.take(anchors, chosen.anchor, axis=0)
        points = ops.reshape(predicted("landmark_deltas"), (-1, 5, 2))
        weights = self.network.dense_head.named_weights
        vertices, frames = vertices_in_frames(
            [ops.cast(outputs[name], dtype) for name in config.dense_outputs],
            chosen.image,
            chosen.anchor,
            anchors,
            decode_boxes(limit_deltas(predicted("box_deltas")), own, *variances),
            decode_points(points, own, variances[0]),
            batch["image"].shape[1:3],
            {name: ops.cast(weight.value, dtype) for name, weight in weights.items()},
            config,
        )
        wanted = ops.cast(chosen.take(batch["vertices"], chosen.take(rows)), dtype)
        losses = mesh_loss(
            vertices / variances[0],
            to_frames(wanted, frames) / variances[0],
            self.triangles,
            self.config.edge_weight,
        )
        return chosen.sum_by_image(losses)
