"""Our own weights files: Keras' `.weights.h5` that says which network it belongs to, and `.keras`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.errors import ConfigError, WeightsError
from retinaface_tf.util.bounds import open_archive, parse_json
from retinaface_tf.util.files import is_file, is_folder
from retinaface_tf.util.npz import DAMAGED_ZIP
from retinaface_tf.weights.arrays import (
    NOTE,
    known_config,
    named_arrays,
    require_config,
    require_finite,
)
from retinaface_tf.weights.hdf5 import SUFFIX, load_hdf5

if TYPE_CHECKING:
    from retinaface_tf.models import RetinaFaceNetwork

_HDF5_START = b"\x89HDF\r\n\x1a\n"


def load_weights(
    path: str | os.PathLike[str], config: RetinaFaceConfig | None = None
) -> RetinaFaceNetwork:
    """The network of a `.weights.h5`, `.weights.npz` or `.keras` file; nothing in it is executed.

    Args:
        config: the architecture the file must have; None for the one it says. A `.weights.h5` of
            another program does not say.

    Raises:
        WeightsError: the file is missing, damaged, foreign, or has another architecture.
    """
    path = require_file(path)
    found = require_own_format(path)
    if found == "npz":
        from retinaface_tf.weights.npz import load_compact_weights

        network = load_compact_weights(path)
    else:
        network = load_hdf5(path, config) if found == "hdf5" else _load_keras(path)
    require_config(path, network.config, config)
    return network


def require_own_format(path: Path) -> str:
    """As `own_format`, of one of them.

    Raises:
        WeightsError: it has none, or it cannot be read.
    """
    found = own_format(path)
    if found is None:
        raise WeightsError(
            f"{path} is neither a {SUFFIX} nor a .keras file (or is truncated at its start); "
            "other formats are read by `retinaface-tf weights convert`."
        )
    return found


def own_format(path: Path) -> str | None:
    """Which of our formats a file's contents have: "hdf5", "npz", "keras", or None.

    Raises:
        WeightsError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(_HDF5_START))
        if not start.startswith(b"PK"):
            return "hdf5" if start == _HDF5_START else None
        with open_archive(path) as archive:
            names = set(archive.namelist())
    except DAMAGED_ZIP:
        # Cut off before its directory: only the name is left to go by.
        return {".keras": "keras", ".npz": "npz"}.get(path.suffix)
    except OSError as error:
        raise WeightsError(f"Cannot read {path}: {error.strerror or error}.") from None
    if f"{NOTE}.npy" in names:
        return "npz"
    return "keras" if {"config.json", "model.weights.h5"} <= names else None


def require_file(path: str | os.PathLike[str]) -> Path:
    """The path of a file that exists and is not empty.

    Raises:
        WeightsError: it does not.
    """
    path = Path(path)
    if is_folder(path):
        raise WeightsError(f"{path} is a folder; give a weights file.")
    if not is_file(path):
        raise WeightsError(f"There is no weights file {path}; check the path.")
    if not path.stat().st_size:
        raise WeightsError(f"The weights file {path} is empty; copy or download it again.")
    return path


def _load_keras(path: Path) -> RetinaFaceNetwork:
    import keras

    from retinaface_tf.models import RetinaFaceNetwork

    try:
        with open_archive(path) as archive:
            described = parse_json(archive.read("config.json"))
        registered, options = described.get("registered_name"), described["config"].get("config")
    except (*DAMAGED_ZIP, KeyError, AttributeError, OSError):
        raise WeightsError(f"{path} is truncated or damaged; save or copy it again.") from None
    # A .keras file may name any class; only our own is ever built.
    if registered != "retinaface_tf>RetinaFaceNetwork":
        raise WeightsError(
            f"{path} holds a {described.get('class_name')!r}, not a RetinaFace network; save the "
            "model that build_retinaface returned."
        )
    if isinstance(options, dict):
        known_config(path, options)
    try:
        network = keras.saving.load_model(path, compile=False, safe_mode=True)
    except ConfigError:  # of a backbone that is not registered
        raise
    except Exception as error:
        detail = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise WeightsError(f"{path} is damaged ({detail}); save or copy it again.") from None
    if not isinstance(network, RetinaFaceNetwork):
        raise WeightsError(f"{path} does not hold a RetinaFace network.")
    require_finite(path, named_arrays(network))
    return network
