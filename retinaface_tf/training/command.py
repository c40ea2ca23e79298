"""What `retinaface-tf train` and `training/train.py` do with their options."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from retinaface_tf.errors import ConfigError, DataError
from retinaface_tf.training.config import TrainingConfig, read_config
from retinaface_tf.util.process import to_stderr

CONFIGS = Path(__file__).resolve().parent / "configs"
# The configuration where none is named, by the kind of data.
DEFAULT = "wider_mobilenet025"
DEFAULTS = {"synthetic": "synthetic", "fddb": "fddb_finetune", "mesh-labels": "mesh_labels"}


def resolve_config(
    name: str | None,
    data: str | None,
    root: Path | None,
    epochs: int | None,
    batch: int | None,
    devices: int | None,
    overrides: Sequence[str],
) -> TrainingConfig:
    """The configuration a command line asks for; later arguments win over earlier ones.

    Raises:
        ConfigError: there is no such configuration, or a name or value is wrong.
    """
    options = {
        "data.kind": data,
        "data.root": str(root) if root else None,
        "epochs": epochs,
        "data.batch": batch,
        "devices": devices,
    }
    path = find_config(name or DEFAULTS.get(data or "synthetic", DEFAULT))
    return read_config(path, overrides, options)


def find_config(name: str) -> Path:
    """A configuration by path, or by its name in `retinaface_tf/training/configs`.

    Raises:
        ConfigError: there is none.
    """
    if Path(name).is_file():
        return Path(name)
    path = CONFIGS / f"{name}.toml"
    if path.is_file():
        return path
    known = sorted(
        p.relative_to(CONFIGS).with_suffix("").as_posix() for p in CONFIGS.rglob("*.toml")
    )
    raise ConfigError(
        f"There is no configuration {name!r}; give a file or one of: {', '.join(known)}."
    )


def run(config: TrainingConfig, out: Path, *, restart: bool, quiet: bool) -> None:
    """Trains, with notes of what happens on standard error and the results on standard output.

    Raises:
        RetinaFaceError: see `trainer.train`.
    """
    from retinaface_tf.training.trainer import train
    from retinaface_tf.util.progress import choose_track

    if restart and os.environ.get("TF_CONFIG"):
        raise ConfigError(
            "--restart cannot be used with several workers (TF_CONFIG), each of which would remove "
            f"what the others write; remove {out} yourself."
        )
    if restart and out.exists():
        if not (out / "config.json").is_file():
            raise DataError(f"{out} is not the folder of a run; --restart does not remove it.")
        shutil.rmtree(out)
    result = train(config, out, track=choose_track(quiet), notify=to_stderr)
    if result.after is not None:
        print(f"average precision before {result.before:.4f}, after {result.after:.4f}")
    print(f"weights: {result.folder / 'last.weights.h5'}")
    print(f"images: {result.folder / 'detections.png'}, {result.folder / 'learning.png'}")
