"""Our own weights files: Keras' `.weights.h5` that says which network it belongs to, and `.keras`."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.errors import ConfigError, WeightsError

if TYPE_CHECKING:
    import numpy as np

    from retinaface_tf.models import RetinaFaceNetwork

SUFFIX = ".weights.h5"
# Attribute of the file's root that holds {"format", "config", "sha256"} as JSON.
_ATTRIBUTE = "retinaface_tf"
_FORMAT = 1
_HDF5_START = b"\x89HDF\r\n\x1a\n"


def save_weights(network: RetinaFaceNetwork, path: str | Path) -> Path:
    """Writes a network's weights and its configuration to a `.weights.h5` file, whole or not at all.

    Raises:
        WeightsError: the name ends otherwise, or the folder cannot be written.
    """
    import h5py

    path = Path(path)
    if not path.name.endswith(SUFFIX):
        raise WeightsError(f"Cannot write {path}: give a name that ends in {SUFFIX}.")
    partial = path.with_name(f".{path.name.removesuffix(SUFFIX)}.{uuid.uuid4().hex[:8]}{SUFFIX}")
    note = {"format": _FORMAT, "config": network.config.to_dict(), "sha256": _digest(network)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        network.save_weights(partial)
        with h5py.File(partial, "r+") as file:
            file.attrs[_ATTRIBUTE] = json.dumps(note)
        partial.replace(path)
    except OSError as error:
        raise WeightsError(
            f"Cannot write {path}: {os.strerror(error.errno) if error.errno else error}."
        ) from None
    finally:
        partial.unlink(missing_ok=True)
    return path


def load_weights(path: str | Path, config: RetinaFaceConfig | None = None) -> RetinaFaceNetwork:
    """The network of a `.weights.h5`, `.weights.npz` or `.keras` file; nothing in it is executed.

    Args:
        path: the file.
        config: the architecture the file must have; None for the one it says. A `.weights.h5` of
            another program does not say.

    Raises:
        WeightsError: the file is missing, damaged, foreign, or has another architecture.
    """
    path = require_file(path)
    if not is_own_file(path):
        raise WeightsError(
            f"{path} is neither a {SUFFIX} nor a .keras file (or is truncated at its start); "
            "other formats are read by `retinaface-tf weights convert`."
        )
    from retinaface_tf.compact_weights import is_compact, load_compact_weights

    with path.open("rb") as file:
        archive = file.read(2) == b"PK"
    if archive:
        network = load_compact_weights(path) if is_compact(path) else _load_keras(path)
    else:
        network = _load_h5(path, config)
    if config is not None and network.config != config:
        raise WeightsError(_other_network(path, network.config, config))
    return network


def is_own_file(path: Path) -> bool:
    """Whether the contents are those of an HDF5, a `.weights.npz` or a `.keras` file."""
    from retinaface_tf.compact_weights import is_compact

    try:
        with path.open("rb") as file:
            start = file.read(len(_HDF5_START))
        if start.startswith(b"PK"):
            with zipfile.ZipFile(path) as archive:
                keras_file = {"config.json", "model.weights.h5"} <= set(archive.namelist())
            return keras_file or is_compact(path)
    except zipfile.BadZipFile:
        # Cut off before its directory: only the name is left to go by.
        return path.suffix in (".keras", ".npz")
    except OSError as error:
        raise WeightsError(f"Cannot read {path}: {error.strerror or error}.") from None
    return start == _HDF5_START


def require_file(path: str | Path) -> Path:
    """The path of a file that exists and is not empty.

    Raises:
        WeightsError: it does not.
    """
    path = Path(path)
    if path.is_dir():
        raise WeightsError(f"{path} is a folder; give a weights file.")
    if not path.is_file():
        raise WeightsError(f"There is no weights file {path}; check the path.")
    if not path.stat().st_size:
        raise WeightsError(f"The weights file {path} is empty; copy or download it again.")
    return path


def _load_h5(path: Path, config: RetinaFaceConfig | None) -> RetinaFaceNetwork:
    from retinaface_tf.models import build_retinaface

    note = _read_note(path)
    if note is None and config is None:
        raise WeightsError(
            f"{path} does not say which network it belongs to; name one with --preset."
        )
    recorded = _recorded_config(path, note) if note else config
    if config is not None and recorded != config:
        raise WeightsError(_other_network(path, recorded, config))
    network = build_retinaface(recorded)
    try:
        with warnings.catch_warnings():
            # Keras only warns of layers that it leaves as they are.
            warnings.simplefilter("error", UserWarning)
            network.load_weights(path)
    except Exception as error:
        # h5py and Keras report damage and misfits in many classes.
        detail = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise WeightsError(
            f"{path} does not hold the weights of a {recorded.backbone} network, or is damaged "
            f"({detail}); make it again, or name its network with --preset."
        ) from None
    if note and note.get("sha256") != _digest(network):
        raise WeightsError(f"{path} is damaged: its numbers changed since it was written.")
    return network


def _read_note(path: Path) -> dict | None:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            text = file.attrs.get(_ATTRIBUTE)
            if text is None:
                return None
            note = json.loads(text)
    except (OSError, RuntimeError, KeyError):
        raise WeightsError(
            f"{path} is truncated or damaged; copy it, convert it or pull it again."
        ) from None
    except (ValueError, TypeError):
        note = None
    if not isinstance(note, dict) or not isinstance(note.get("config"), dict):
        raise WeightsError(f"{path} is damaged: its note on the network is not readable.")
    if note.get("format") != _FORMAT:
        raise WeightsError(
            f"{path} has format {note.get('format')!r} and this version reads {_FORMAT}; "
            "upgrade retinaface-tf."
        )
    return note


def _recorded_config(path: Path, note: dict) -> RetinaFaceConfig:
    try:
        return RetinaFaceConfig.from_dict(note["config"])
    except (ConfigError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{path} describes a network this version does not know ({str(error).rstrip('.')}); "
            "upgrade retinaface-tf."
        ) from None


def _load_keras(path: Path) -> RetinaFaceNetwork:
    import keras

    from retinaface_tf.models import RetinaFaceNetwork

    try:
        with zipfile.ZipFile(path) as archive:
            described = json.loads(archive.read("config.json"))
        registered = described.get("registered_name")
    except (zipfile.BadZipFile, KeyError, ValueError, AttributeError, OSError):
        raise WeightsError(f"{path} is truncated or damaged; save or copy it again.") from None
    # A .keras file may name any class; only our own is ever built.
    if registered != "retinaface_tf>RetinaFaceNetwork":
        raise WeightsError(
            f"{path} holds a {described.get('class_name')!r}, not a RetinaFace network; save the "
            "model that build_retinaface returned."
        )
    try:
        network = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        detail = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise WeightsError(f"{path} is damaged ({detail}); save or copy it again.") from None
    if not isinstance(network, RetinaFaceNetwork):
        raise WeightsError(f"{path} does not hold a RetinaFace network.")
    return network


def _other_network(path: Path, has: RetinaFaceConfig, wanted: RetinaFaceConfig) -> str:
    ours, theirs = wanted.to_dict(), has.to_dict()
    differences = [
        f"{name} is {theirs[name]!r}, not {ours[name]!r}"
        for name in theirs
        if theirs[name] != ours[name]
    ]
    return (
        f"{path} belongs to another network ({'; '.join(differences)}); "
        "name the preset it was made for."
    )


def named_arrays(network: RetinaFaceNetwork) -> dict[str, np.ndarray]:
    """A network's weights as little-endian float32 arrays, by their paths in it."""
    import keras
    import numpy as np

    return {
        weight.path: np.asarray(keras.ops.convert_to_numpy(weight), "<f4")
        for weight in network.weights
    }


def arrays_digest(arrays: dict[str, np.ndarray]) -> str:
    """Of all weights' bytes as float32: files' own formats do not notice a flipped bit."""
    import numpy as np

    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(arrays[name], "<f4").tobytes())
    return digest.hexdigest()


def _digest(network: RetinaFaceNetwork) -> str:
    return arrays_digest(named_arrays(network))
