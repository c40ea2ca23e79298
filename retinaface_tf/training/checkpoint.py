"""Checkpoints: all variables of network and optimiser and the place in the data, in one file."""

from pathlib import Path
from typing import Any

import numpy as np

from retinaface_tf.errors import DataError
from retinaface_tf.util.npz import read_npz, write_npz

_KEPT = 2
_STATE = "state"
_AVERAGE = "average/"


class Checkpoints:
    """The checkpoints of a run, `step-NNNNNNNNN.npz`; numbers and JSON only, nothing pickled.

    A file is written whole or not at all and flushed to the disk, so a process or a machine that
    dies at any moment leaves the earlier ones whole.

    Args:
        folder: where they lie; made when needed. The newest two are kept.
    """

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)

    def paths(self) -> list[Path]:
        """All checkpoints, newest first."""
        return sorted(self.folder.glob(f"step-{'[0-9]' * 9}.npz"), reverse=True)

    def save(self, step: int, variables: dict[str, np.ndarray], state: dict[str, Any]) -> Path:
        """Writes one checkpoint and removes the oldest."""
        path = self.folder / f"step-{step:09d}.npz"
        write_npz(path, variables, state, key=_STATE, compressed=False, error=DataError)
        for old in self.paths()[_KEPT:]:
            old.unlink(missing_ok=True)
        return path

    def load_newest(self) -> tuple[dict[str, np.ndarray], dict[str, Any], list[Path]] | None:
        """The newest checkpoint that can be read.

        Returns:
            Variables, state and the damaged files that were passed over; None without any.

        Raises:
            DataError: there are checkpoints and none can be read.
        """
        damaged: list[Path] = []
        for path in self.paths():
            try:
                return *read_npz(path, key=_STATE, limit=None, error=DataError), damaged
            except DataError:
                damaged.append(path)
        if damaged:
            raise DataError(
                f"No checkpoint in {self.folder} can be read (newest: {damaged[0].name}); remove the "
                "folder to start again."
            )
        return None


def read_variables(parts, optimizer, average=None) -> dict[str, np.ndarray]:
    """Values of all variables of the parts that learn, of the optimiser and the average, by name.

    Args:
        average: the `MovingAverage` of the network, if one is kept.
    """
    return {name: v.numpy() for name, v in _named(parts, optimizer, average)}


def write_variables(parts, optimizer, average, values: dict[str, np.ndarray]) -> None:
    """The inverse of `read_variables`.

    Raises:
        DataError: a value is missing or has another shape.
    """
    named = list(_named(parts, optimizer, average))
    if average and not any(name.startswith(_AVERAGE) for name in values):
        raise DataError(
            "The checkpoint has no average of batch norm's statistics, being from a version that "
            "averaged weights only; choose another --out and set init.source to this run's "
            "last.weights.h5."
        )
    for name, variable in named:
        if name not in values or values[name].shape != tuple(variable.shape):
            raise DataError(
                f"The checkpoint belongs to another configuration: its {name} is "
                f"{values[name].shape if name in values else 'missing'}, not "
                f"{tuple(variable.shape)}; choose another --out."
            )
    for name, variable in named:
        variable.assign(values[name])


def _named(parts, optimizer, average):
    for number, variable in enumerate(v for part in parts for v in part.variables):
        yield f"network/{number:04d}-{variable.path.replace('/', '.')}", variable
    for number, variable in enumerate(optimizer.variables):
        # Without the optimiser's own name, which Keras counts up within a process.
        yield f"optimizer/{number:04d}-{variable.path.rpartition('/')[2]}", variable
    for number, variable in enumerate(average.averages if average else ()):
        path = average.of[number].path.replace("/", ".")
        yield f"{_AVERAGE}{number:04d}-{path}", variable
