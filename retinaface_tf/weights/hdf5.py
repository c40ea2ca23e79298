"""`.weights.h5`: Keras' HDF5 weights with a note that says which network they belong to."""

from __future__ import annotations

import errno
import json
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.errors import WeightsError
from retinaface_tf.util.bounds import parse_json, require_growth
from retinaface_tf.util.files import whole_file
from retinaface_tf.weights.arrays import (
    NOTE,
    named_arrays,
    network_note,
    recorded_config,
    require_config,
    require_finite,
    require_unchanged,
)

if TYPE_CHECKING:
    import h5py

    from retinaface_tf.models import RetinaFaceNetwork

SUFFIX = ".weights.h5"


def save_weights(network: RetinaFaceNetwork, path: str | Path) -> Path:
    """Writes a network's weights and its configuration to a `.weights.h5` file, whole or not at all.

    Raises:
        WeightsError: the name ends otherwise, or the folder cannot be written.
    """
    import h5py

    path = Path(path)
    if not path.name.endswith(SUFFIX):
        raise WeightsError(f"Cannot write {path}: give a name that ends in {SUFFIX}.")
    arrays = named_arrays(network)
    note = network_note(network, arrays)
    size = sum(array.nbytes + 4096 for array in arrays.values())
    with whole_file(path, suffix=SUFFIX) as partial:
        if shutil.disk_usage(partial.parent).free < size:  # HDF5 would crash
            raise OSError(errno.ENOSPC, "")
        network.save_weights(partial)
        with h5py.File(partial, "r+") as file:
            file.attrs[NOTE] = json.dumps(note)
    return path


def load_hdf5(path: Path, config: RetinaFaceConfig | None) -> RetinaFaceNetwork:
    """The network of a file whose contents are HDF5.

    Args:
        config: the architecture it must have, or has where it does not say.

    Raises:
        WeightsError: the file is damaged, of another network, or does not say which and `config`
            is None.
    """
    from retinaface_tf.models import build_retinaface

    note = _read_note(path)
    if note is None and config is None:
        raise WeightsError(
            f"{path} does not say which network it belongs to; name one with --preset."
        )
    recorded = config if note is None else recorded_config(path, note)
    require_config(path, recorded, config)
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
    arrays = named_arrays(network)
    if note is not None:
        require_unchanged(path, note, arrays)
    require_finite(path, arrays)
    return network


def _read_note(path: Path) -> Any:
    """The file's note as JSON has it, {} where it is no JSON; None where there is none."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            _require_plain(path, file)
            text = file.attrs.get(NOTE)
            return None if text is None else parse_json(text) or {}
    except (OSError, RuntimeError, KeyError):
        raise WeightsError(
            f"{path} is truncated or damaged; copy it, convert it or pull it again."
        ) from None
    except (ValueError, TypeError):
        return {}


def _require_plain(path: Path, file: h5py.File) -> None:
    """Refuses arrays in other files, and a few bytes that stand for any shape."""
    import h5py

    declared, elsewhere = [], []

    def look(name: str, link: object) -> None:
        if not isinstance(link, h5py.HardLink):
            elsewhere.append(name)
        elif isinstance(item := file[name], h5py.Dataset):
            declared.append(item.nbytes)
            if item.external or item.is_virtual:
                elsewhere.append(name)

    file.visititems_links(look)
    if elsewhere:
        raise WeightsError(f"{path} keeps {elsewhere[0]!r} elsewhere; save it as one file.")
    require_growth(path, sum(declared), path.stat().st_size)
