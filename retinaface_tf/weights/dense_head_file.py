"""Dense heads that come with this package: small `.npz` files of float16 numbers, trained here."""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from retinaface_tf.errors import WeightsError
from retinaface_tf.util.npz import read_npz, to_float16, write_npz
from retinaface_tf.weights.arrays import assign_arrays

if TYPE_CHECKING:
    from retinaface_tf.models import RetinaFaceNetwork


def packaged_head(name: str) -> bytes:
    """The bytes of a dense head in this package."""
    return (resources.files("retinaface_tf.sources") / "files" / name).read_bytes()


def head_digest(name: str) -> str:
    """Twelve letters that change when a packaged head does."""
    return hashlib.sha256(packaged_head(name)).hexdigest()[:12]


def save_head(network: RetinaFaceNetwork, path: Path, note: dict) -> None:
    """Writes a network's dense head in float16 with a note, whole or not at all.

    Raises:
        WeightsError: a number is beyond float16's range, or the folder cannot be written.
    """
    from retinaface_tf.models.read_heads import dense_weights

    arrays = to_float16(dense_weights(network))
    write_npz(path, arrays, {"network": network.config.to_dict(), **note})


def fill_head(network: RetinaFaceNetwork, content: bytes, source: str) -> None:
    """Gives a network the dense head in the bytes of such a file.

    Raises:
        WeightsError: it is damaged or of another network.
    """
    arrays, _ = read_npz(content, name=source)
    if not assign_arrays(network.dense_head.named_weights if network.dense_head else {}, arrays):
        raise WeightsError(f"{source} holds the dense head of another network.")
