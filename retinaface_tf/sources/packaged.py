"""Trained networks that come with this package, ready to run without TensorFlow.

For each there are, with a common beginning STEM of their names:

    STEM.weights.npz   float16 weights, for training, exports and the Keras runtime
    STEM.tflite        float32, what the LiteRT runtime runs, at any size of images
    STEM-int8.tflite   the same with int8 weights and maps
    STEM.json          what they are, their checksums, and figures; see `release`

`training/release.py` makes them of a trained network. All hold the same numbers: those of the float16
weights.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from retinaface_tf.errors import ConfigError, WeightsError
from retinaface_tf.presets import PackagedSource, Preset

FOLDER = Path(__file__).resolve().parent / "files"
# What a network's .tflite files differ in.
PRECISIONS = ("float32", "int8")


def file_names(stem: str) -> dict[str, str]:
    """The names of a network's files, by what they are: weights, float32, int8, facts."""
    return {
        "weights": f"{stem}.weights.npz",
        "float32": f"{stem}.tflite",
        "int8": f"{stem}-int8.tflite",
        "facts": f"{stem}.json",
    }


def shipped_file(source: PackagedSource, kind: str) -> Path:
    """A file of a packaged network.

    Args:
        source: of its preset.
        kind: "weights", "float32", "int8" or "facts".

    Raises:
        ConfigError: there is no such kind.
        WeightsError: it is not there.
    """
    names = file_names(source.stem)
    if kind not in names:
        raise ConfigError(f"precision={kind!r} must be {' or '.join(PRECISIONS)}.")
    path = FOLDER / names[kind]
    if not path.is_file():
        raise WeightsError(
            f"{path} is missing from this installation; install retinaface-tf again."
        )
    return path


def is_shipped(source: PackagedSource) -> bool:
    """Whether all of a packaged network's files are there; not so before its first release."""
    return all((FOLDER / name).is_file() for name in file_names(source.stem).values())


def shipped_facts(source: PackagedSource) -> dict[str, Any]:
    """What `STEM.json` says; empty where there is none.

    Raises:
        WeightsError: it is damaged.
    """
    path = FOLDER / file_names(source.stem)["facts"]
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        raise WeightsError(f"{path} is damaged; install retinaface-tf again.") from None


def measured_figures(preset: Preset) -> tuple[tuple[str, str], ...]:
    """(what, value) pairs seen with a preset's weights."""
    if not isinstance(preset.source, PackagedSource):
        return preset.measured
    from retinaface_tf.sources.packaged import shipped_facts

    return (*preset.measured, *shipped_facts(preset.source).get("figures", {}).items())
