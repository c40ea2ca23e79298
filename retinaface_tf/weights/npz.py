"""Small weights files: `.weights.npz`, kernels in float16, readable without Keras' file format.

The weights of a network that comes with a package, in half the bytes. A note says which network they
belong to and holds their checksum.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from retinaface_tf.errors import WeightsError
from retinaface_tf.util.npz import read_npz, to_float16, write_npz
from retinaface_tf.weights.arrays import (
    NOTE,
    assign_arrays,
    named_arrays,
    network_note,
    recorded_config,
    require_finite,
    require_unchanged,
)

if TYPE_CHECKING:
    from retinaface_tf.models import RetinaFaceNetwork

SUFFIX = ".weights.npz"


def save_compact_weights(network: RetinaFaceNetwork, path: str | Path) -> Path:
    """Writes a network's weights, whole or not at all; the same network gives the same bytes.

    Kernels become float16. Vectors (biases, batch norm) stay float32: they are few, and variances
    lie outside float16's range.

    Raises:
        WeightsError: the name ends otherwise, a number is beyond float16, or the folder cannot be
            written.
    """
    path = Path(path)
    if not path.name.endswith(SUFFIX):
        raise WeightsError(f"Cannot write {path}: give a name that ends in {SUFFIX}.")
    arrays = to_float16(named_arrays(network), axes=2)
    return write_npz(path, arrays, network_note(network, arrays), key=NOTE)


def load_compact_weights(path: str | Path) -> RetinaFaceNetwork:
    """The network of a `.weights.npz` file.

    Raises:
        WeightsError: the file is damaged, or of a version this one does not know.
    """
    from retinaface_tf.models import build_retinaface

    path = Path(path)
    arrays, note = read_npz(path, key=NOTE)
    config = recorded_config(path, note)
    require_unchanged(path, note, arrays)
    require_finite(path, arrays)
    network = build_retinaface(config)
    if not assign_arrays({weight.path: weight for weight in network.weights}, arrays):
        raise WeightsError(
            f"{path} does not hold the weights of the network it describes; upgrade retinaface-tf."
        )
    return network
