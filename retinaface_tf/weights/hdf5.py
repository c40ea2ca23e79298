"""`.weights.h5`: Keras' HDF5 weights with a note that says which network they belong to."""

from __future__ import annotations

import json
import os
import uuid
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.errors import ConfigError, WeightsError
from retinaface_tf.weights.arrays import arrays_digest, named_arrays

if TYPE_CHECKING:
    from retinaface_tf.models import RetinaFaceNetwork


SUFFIX = ".weights.h5"

# Attribute of the file's root that holds {"format", "config", "sha256"} as JSON.
_ATTRIBUTE = "retinaface_tf"

_FORMAT = 1


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
    note = {
        "format": _FORMAT,
        "config": network.config.to_dict(),
        "sha256": weights_digest(network),
    }
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


def load_hdf5(path: Path, config: RetinaFaceConfig | None) -> RetinaFaceNetwork:
    from retinaface_tf.models import build_retinaface

    note = _read_note(path)
    if note is None and config is None:
        raise WeightsError(
            f"{path} does not say which network it belongs to; name one with --preset."
        )
    recorded = _recorded_config(path, note) if note else config
    if config is not None and recorded != config:
        raise WeightsError(network_mismatch(path, recorded, config))
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
    if note and note.get("sha256") != weights_digest(network):
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


def network_mismatch(path: Path, has: RetinaFaceConfig, wanted: RetinaFaceConfig) -> str:
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


def weights_digest(network: RetinaFaceNetwork) -> str:
    return arrays_digest(named_arrays(network))
