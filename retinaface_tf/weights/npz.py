"""Small weights files: `.weights.npz`, kernels in float16, readable without Keras' file format.

The numbers of a network that comes with a package, in half the bytes. A note says which network they
belong to and closes them with a checksum; nothing in the file is executed.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.errors import ConfigError, WeightsError
from retinaface_tf.util.files import write_whole
from retinaface_tf.weights.arrays import arrays_digest, named_arrays

if TYPE_CHECKING:
    from retinaface_tf.models import RetinaFaceNetwork

SUFFIX = ".weights.npz"
_NOTE = "retinaface_tf"
_FORMAT = 1


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
    arrays = {}
    for name, values in named_arrays(network).items():
        arrays[name] = values.astype("<f2") if values.ndim > 1 else values
        if not np.isfinite(arrays[name]).all():
            raise WeightsError(f"{name} has numbers that float16 cannot hold; train it again.")
    note = {
        "format": _FORMAT,
        "config": network.config.to_dict(),
        "sha256": arrays_digest(arrays),
    }
    buffer = io.BytesIO()
    encoded = np.frombuffer(json.dumps(note).encode(), np.uint8)
    np.savez_compressed(buffer, **{_NOTE: encoded}, **arrays)
    return write_whole(path, buffer.getvalue())


def is_compact(path: Path) -> bool:
    """Whether a file's contents are those of this format."""
    try:
        with zipfile.ZipFile(path) as archive:
            return f"{_NOTE}.npy" in archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return False


def load_compact_weights(path: str | Path) -> RetinaFaceNetwork:
    """The network of a `.weights.npz` file.

    Raises:
        WeightsError: the file is damaged, or of a version this one does not know.
    """
    from retinaface_tf.models import build_retinaface

    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        note = json.loads(arrays.pop(_NOTE).tobytes())
        described, expected = note["config"], note["sha256"]
    except Exception as error:  # numpy, zipfile and json report damage in many classes
        raise WeightsError(
            f"{path} is truncated or damaged ({type(error).__name__}); copy it again."
        ) from None
    if note["format"] != _FORMAT:
        raise WeightsError(
            f"{path} has format {note['format']!r} and this version reads {_FORMAT}; "
            "upgrade retinaface-tf."
        )
    if arrays_digest(arrays) != expected:
        raise WeightsError(f"{path} is damaged: its numbers changed since it was written.")
    try:
        network = build_retinaface(RetinaFaceConfig.from_dict(described))
    except (ConfigError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{path} describes a network this version does not know ({str(error).rstrip('.')}); "
            "upgrade retinaface-tf."
        ) from None
    weights = {weight.path: weight for weight in network.weights}
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    if shapes != {name: values.shape for name, values in arrays.items()}:
        raise WeightsError(
            f"{path} does not hold the weights of the network it describes; upgrade retinaface-tf."
        )
    for name, values in arrays.items():
        weights[name].assign(values.astype(np.float32))
    return network
