"""Dense heads that come with this package: small `.npz` files of float16 numbers, trained here."""

from __future__ import annotations

import hashlib
import json
import uuid
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from retinaface_tf.errors import WeightsError

if TYPE_CHECKING:
    from retinaface_tf.models import RetinaFaceNetwork

_NOTE = "note"


def packaged_head(name: str) -> bytes:
    """The bytes of a dense head in this package."""
    return (resources.files("retinaface_tf.sources") / "files" / name).read_bytes()


def head_digest(name: str) -> str:
    """Twelve letters that change when a packaged head does."""
    return hashlib.sha256(packaged_head(name)).hexdigest()[:12]


def save_head(network: RetinaFaceNetwork, path: Path, note: dict) -> None:
    """Writes a network's dense head in float16, whole or not at all.

    Raises:
        WeightsError: a number is beyond float16's range, or the folder cannot be written.
    """
    from retinaface_tf.models.read_heads import dense_weights

    arrays = {name: value.astype(np.float16) for name, value in dense_weights(network).items()}
    if not all(np.isfinite(value).all() for value in arrays.values()):
        raise WeightsError("The dense head has numbers that float16 cannot hold; train it again.")
    note = {"network": network.config.to_dict(), **note}
    arrays[_NOTE] = np.frombuffer(json.dumps(note).encode(), np.uint8)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with partial.open("wb") as file:
            np.savez_compressed(file, **arrays)
        partial.replace(path)
    except OSError as error:
        raise WeightsError(f"Cannot write {path}: {error.strerror or error}.") from None
    finally:
        partial.unlink(missing_ok=True)


def fill_head(network: RetinaFaceNetwork, content: bytes, source: str) -> None:
    """Gives a network the dense head of such a file.

    Raises:
        WeightsError: it is damaged or of another network.
    """
    import io

    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files if name != _NOTE}
    except Exception as error:  # numpy and zipfile report damage in many classes
        raise WeightsError(f"{source} is damaged ({type(error).__name__}).") from None
    weights = network.dense_head.named_weights if network.dense_head else {}
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    if shapes != {name: values.shape for name, values in arrays.items()}:
        raise WeightsError(f"{source} holds the dense head of another network.")
    for name, values in arrays.items():
        weights[name].assign(values.astype(np.float32))
