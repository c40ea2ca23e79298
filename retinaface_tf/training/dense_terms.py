"""The dense branches' loss terms: which of them a configuration asks for."""

from __future__ import annotations

from typing import Protocol

import keras
import numpy as np

from retinaface_tf.errors import ConfigError
from retinaface_tf.losses.mesh_term import MeshTerm
from retinaface_tf.losses.multitask import LossConfig
from retinaface_tf.mesh.topology import load_topology
from retinaface_tf.models import RetinaFaceNetwork
from retinaface_tf.reconstruction.pixel_term import PixelTerm


class DenseTerm(Protocol):
    """One term.

    Attributes:
        branch: what learns beside the network and is left out of it at inference; None for nothing.
    """

    branch: keras.layers.Layer | None

    def __call__(self, batch: dict, outputs: dict, targets: dict):
        """The loss of each image of a batch, summed over its positives: [B].

        Args:
            batch: of the pipeline.
            outputs: the network's, with the feature maps of all levels.
            targets: of the network's last stage.
        """
        ...


def dense_terms(
    network: RetinaFaceNetwork, anchors: np.ndarray, loss: LossConfig
) -> dict[str, DenseTerm]:
    """The terms with a weight, by their names in `DENSE_TERMS`, in that order.

    Raises:
        ConfigError: L_mesh is asked for and the network has no head for our own topology.
    """
    terms: dict[str, DenseTerm] = {}
    if loss.mesh_weight:
        topology, dense = load_topology(), network.config.dense
        if dense is None or dense.vertices != topology.num_vertices:
            raise ConfigError(
                f"loss.mesh_weight needs a network with network.dense for {topology.num_vertices} "
                "vertices."
            )
        terms["mesh"] = MeshTerm(network, anchors, loss, topology)
    if loss.pixel_weight:
        terms["pixel"] = PixelTerm(network.config, anchors, loss)
    return terms
