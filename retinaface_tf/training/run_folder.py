"""The folder of a training run: no file in it that the run did not write is replaced or removed."""

import json
from pathlib import Path

from retinaface_tf.errors import ConfigError, DataError
from retinaface_tf.training.config import TrainingConfig, read_config
from retinaface_tf.util.files import require_folder, write_whole
from retinaface_tf.util.options import read_options

CONFIG = "config.json"
BEFORE = "detections_before.png"
IMAGES = ("detections.png", "learning.png", "precision_recall.png")
# Everything a run writes; patterns, since folders may hold others' files too.
_WRITTEN = (
    *(CONFIG, "metrics.csv", "best.weights.h5", "last.weights.h5", "train.log", BEFORE, *IMAGES),
    *("checkpoints/step-*.npz", "tensorboard/events.out.tfevents.*"),
)
# Members of every configuration that any version wrote.
_MEMBERS = set(
    ["network", "data", "loss", "schedule", "optimizer", "init", "epochs", "precision", "seed"]
)


def claim_folder(folder: Path, config: TrainingConfig) -> None:
    """Makes a folder a run's own, before the work begins.

    A run there may go on for another number of epochs, unless its learning rate depends on that.

    Raises:
        ConfigError: it cannot be written, belongs to a run with other settings, or has files of the
            names that a run writes and no run's `config.json`.
    """
    require_folder(folder)
    path, values = folder / CONFIG, config.to_dict()
    others = [file for file in _written(folder) if file != path]
    if path.exists():
        try:
            # Old names are read, and options that did not exist then have their defaults.
            old = read_config(path).to_dict()
            free = ("patience", *(("epochs",) if config.schedule.kind == "steps" else ()))
            old.update({name: values[name] for name in free})
            reason = ", ".join(name for name in values if old[name] != values[name])
            # A run that came to nothing, perhaps for a mistake in its settings.
            nothing = not others and read_options(path).keys() == values.keys()
        except ConfigError as error:
            reason, nothing = str(error).rstrip("."), False
        if not reason and not others:
            return  # perhaps a configuration that a person wrote
        if reason and not nothing:
            raise ConfigError(
                f"{folder} holds a run with other settings ({reason}); choose another --out, or "
                "start again with --restart."
            )
    elif others:
        raise ConfigError(
            f"{others[0]} is there already and belongs to no run here; choose another --out."
        )
    write_whole(path, json.dumps(values, indent=1) + "\n", error=DataError)


def clear_folder(folder: Path, config: TrainingConfig) -> None:
    """Removes what an earlier run wrote, and nothing else.

    Args:
        folder: of the run; one that does not exist is passed over.
        config: of the run to come, whose inputs are kept.

    Raises:
        DataError: the folder holds no run, or a file cannot be removed.
        ConfigError: the run to come reads one of the files.
    """
    if not folder.exists():
        return
    try:
        ours = read_options(folder / CONFIG).keys() >= _MEMBERS
    except ConfigError:
        ours = False
    if not ours:
        raise DataError(f"{folder} is not the folder of a run; --restart does not remove it.")
    files = _written(folder)
    for given in _inputs(config):
        if Path(given).resolve() in [file.resolve() for file in files]:
            raise ConfigError(
                f"--restart would remove {given}, which this run reads; choose another --out."
            )
    try:
        for file in files:
            file.unlink()
    except OSError as error:
        raise DataError(f"Cannot remove {file}: {error.strerror}.") from None


def _written(folder: Path) -> list[Path]:
    return [path for pattern in _WRITTEN for path in sorted(folder.glob(pattern))]


def _inputs(config: TrainingConfig) -> list[str]:
    data = config.data
    given = (data.labels, data.meshes, data.validation_labels)
    return [path for path in (*given, config.init.source, config.distillation.source) if path]
