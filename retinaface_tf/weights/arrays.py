"""A network's weights as named arrays, and the note that says in a file which network they belong to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.errors import ConfigError, WeightsError

if TYPE_CHECKING:
    import numpy as np

    from retinaface_tf.models import RetinaFaceNetwork

# Name of the note in a file, an attribute or an array.
NOTE = "retinaface_tf"
_FORMAT = 1


def named_arrays(network: RetinaFaceNetwork) -> dict[str, np.ndarray]:
    """A network's weights as little-endian float32 arrays, by their paths in it."""
    import keras
    import numpy as np

    return {
        weight.path: np.asarray(keras.ops.convert_to_numpy(weight), "<f4")
        for weight in network.weights
    }


def assign_arrays(weights: Mapping[str, Any], arrays: dict[str, np.ndarray]) -> bool:
    """Gives Keras variables the arrays of their names.

    Returns:
        False where names or shapes differ; nothing is assigned then.
    """
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    if shapes != {name: values.shape for name, values in arrays.items()}:
        return False
    for name, values in arrays.items():
        weights[name].assign(values.astype("float32"))
    return True


def network_note(network: RetinaFaceNetwork, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """What a file says of a network: its configuration, and the checksum of the arrays beside it."""
    return {"format": _FORMAT, "config": network.config.to_dict(), "sha256": _digest(arrays)}


def recorded_config(path: Path, note: Any) -> RetinaFaceConfig:
    """The configuration in a file's note.

    Raises:
        WeightsError: it is not readable, of another version, or describes an unknown network.
    """
    if not isinstance(note, dict) or not isinstance(note.get("config"), dict):
        raise WeightsError(f"{path} is damaged: its note on the network is not readable.")
    if note.get("format") != _FORMAT:
        raise WeightsError(
            f"{path} has format {note.get('format')!r} and this version reads {_FORMAT}; "
            "upgrade retinaface-tf."
        )
    return known_config(path, note["config"])


def known_config(path: Path, values: dict[str, Any]) -> RetinaFaceConfig:
    """The configuration that a file describes.

    Raises:
        WeightsError: this version has no such network.
    """
    try:
        return RetinaFaceConfig.from_dict(values)
    except (ConfigError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{path} describes a network this version does not know ({str(error).rstrip('.')}); "
            "use the version of retinaface-tf that wrote it."
        ) from None


def require_unchanged(path: Path, note: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Refuses arrays that are not those the note was written for.

    Raises:
        WeightsError: their checksum is another.
    """
    if note.get("sha256") != _digest(arrays):
        raise WeightsError(f"{path} is damaged: its numbers changed since it was written.")


def require_finite(source: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Refuses arrays with NaN or infinite numbers, which a training that blew up leaves.

    Raises:
        WeightsError: it names some of them.
    """
    import numpy as np

    broken = [name for name, values in arrays.items() if not np.isfinite(values).all()]
    if broken:
        more = f" and {len(broken) - 3} more" if len(broken) > 3 else ""
        raise WeightsError(
            f"{source} has numbers that are not finite in {', '.join(broken[:3])}{more}; take "
            "another checkpoint."
        )


def require_config(path: Path, has: RetinaFaceConfig, wanted: RetinaFaceConfig | None) -> None:
    """Refuses another network than the wanted one; None wants any.

    Raises:
        WeightsError: the configurations differ.
    """
    if wanted is None or has == wanted:
        return
    ours, theirs = wanted.to_dict(), has.to_dict()
    differences = [
        f"{name} is {theirs.get(name)!r}, not {ours.get(name)!r}"
        for name in theirs | ours
        if theirs.get(name) != ours.get(name)
    ]
    raise WeightsError(
        f"{path} belongs to another network ({'; '.join(differences)}); "
        "name the preset it was made for."
    )


def _digest(arrays: dict[str, np.ndarray]) -> str:
    """Of all weights' bytes as float32: files' own formats do not notice a flipped bit."""
    import numpy as np

    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(arrays[name], "<f4").tobytes())
    return digest.hexdigest()
