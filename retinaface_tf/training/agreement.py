"""What all workers of a run must have in common, compared before the first step.

Workers that differ would not fail: they would train something that none of them describes.
"""

import hashlib
import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from retinaface_tf import __version__
from retinaface_tf.errors import ConfigError
from retinaface_tf.training.config import TrainingConfig
from retinaface_tf.training.distributed import Devices

# Folders may lie elsewhere on each host; their contents are compared separately.
_PATHS = (
    *("root", "labels", "images", "paste", "paste_images"),
    *("validation_labels", "validation_images"),
)
_PACKAGE = Path(__file__).resolve().parent.parent


def check_agreement(devices: Devices, facts: Mapping[str, str], remedy: str) -> None:
    """Compares facts over all workers; every worker has to call it. One worker needs no check.

    Args:
        facts: values by their name in a message.
        remedy: what to do where one differs, the end of a sentence.

    Raises:
        ConfigError: on every worker, naming the first that differs from worker 0.
    """
    if devices.workers == 1:
        return
    everyone = _gather(devices, dict(facts))
    for worker in range(1, devices.workers):
        difference = first_difference(everyone[0], everyone[worker])
        if difference:
            name, expected, found = difference
            raise ConfigError(
                f"Worker {worker} has {name} {found}, worker 0 has {expected}; {remedy}."
            )


def first_difference(a: Mapping[str, str], b: Mapping[str, str]) -> tuple[str, str, str] | None:
    """Name and both values of the first fact that differs."""
    for name in dict.fromkeys((*a, *b)):
        pair = a.get(name, "nothing"), b.get(name, "nothing")
        if pair[0] != pair[1]:
            return name, *pair
    return None


def code_facts() -> dict[str, str]:
    """The package's commit, or its version outside a checkout, and TensorFlow's version."""
    return {"code": _commit() or f"version {__version__}", "TensorFlow": tf.__version__}


def configuration_facts(config: TrainingConfig) -> dict[str, str]:
    """Every option by its dotted name; without the paths of the data."""
    values = config.to_dict()
    for name in _PATHS:
        values["data"].pop(name)
    return {name: json.dumps(value) for name, value in _flat(values)}


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _commit() -> str | None:
    """The checkout's commit, with a digest of what is changed in it; None if it is no checkout."""

    def git(*arguments: str) -> bytes:
        return subprocess.run(
            ["git", "-C", str(_PACKAGE), *arguments],
            capture_output=True,
            check=True,
            stdin=subprocess.DEVNULL,
        ).stdout

    try:
        # An installed copy may lie in a folder of some other checkout.
        git("ls-files", "--error-unmatch", "__init__.py")
        commit = git("rev-parse", "--short=12", "HEAD").decode().strip()
        changes = git("diff", "HEAD", "--", ".")
    except (OSError, subprocess.CalledProcessError):
        return None
    if changes:
        return f"commit {commit} with changes {hashlib.sha256(changes).hexdigest()[:8]}"
    return f"commit {commit}"


def _gather(devices: Devices, facts: dict[str, str]) -> dict[int, dict[str, str]]:
    """Everyone's facts by worker."""
    text = json.dumps([devices.worker, facts]).encode() + b"\0"
    letters = np.frombuffer(text, np.uint8).astype(np.int32)
    strategy = devices.strategy

    @tf.function
    def gather():
        return strategy.gather(strategy.run(lambda: tf.constant(letters)), axis=0)

    found = gather().numpy().astype(np.uint8).tobytes()
    return dict(json.loads(part) for part in found.split(b"\0") if part)
