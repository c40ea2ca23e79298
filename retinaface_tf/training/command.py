"""What `retinaface-tf train` and `training/train.py` do with their options."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retinaface_tf.errors import ConfigError
from retinaface_tf.presets import get_preset, list_presets
from retinaface_tf.training.config import TrainingConfig, is_kind, read_config
from retinaface_tf.training.run_folder import CONFIG, IMAGES, claim_folder, clear_folder
from retinaface_tf.util.extras import require
from retinaface_tf.util.files import is_file
from retinaface_tf.util.options import apply_overrides, check_choice, check_range
from retinaface_tf.util.process import to_stderr


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Who starts the workers of a run on several machines.

    Attributes:
        name: "ray", "slurm", or "none": this process, and others that have their own `TF_CONFIG`.
        workers, address, restarts: of Ray, see `ray_train.train_on_ray`.

    Raises:
        ConfigError: there is no such engine, or it takes no such options.
    """

    name: str = "none"
    workers: int = 1
    address: str | None = None
    restarts: int = 3

    def __post_init__(self) -> None:
        check_choice(self, "engine", "name", ENGINES)
        check_range(self, "", "workers", 1)
        check_range(self, "", "restarts", 0)
        if self.name != "ray" and (self.workers > 1 or self.address):
            raise ConfigError("--workers and --ray-address need --engine ray.")


ENGINES = ("none", "ray", "slurm")
CONFIGS = Path(__file__).resolve().parent / "configs"
# The configuration where none is named, by the kind of data.
DEFAULT = "wider_mobilenet025"
DEFAULTS = {"synthetic": "synthetic", "fddb": "fddb_finetune", "mesh-labels": "mesh_labels"}


def resolve_config(
    name: str | None,
    options: Mapping[str, Any],
    overrides: Sequence[str],
    *,
    finetune: str | None = None,
) -> TrainingConfig:
    """The configuration a command line asks for.

    Args:
        name: of a configuration; None for that of the kind of data, or "finetune".
        options: values by dotted names, None where an option is not given.
            "data.kind" may also be a folder or a file of labels, which is looked into.
        overrides: "key=value", which win over `options`.
        finetune: preset or weights file to start from.

    Raises:
        ConfigError: there is no such configuration, or a name or value is wrong.
    """
    options = dict(options)
    if finetune:
        options |= {"init.source": finetune, "network": _network_of(finetune)}
    if finetune and not options["data.kind"]:
        raise ConfigError("--finetune needs --data, the folder of your photos and labels.")
    name = name or ("finetune" if finetune else None)
    if options["data.kind"] and not is_kind(options["data.kind"]):
        from retinaface_tf.training.data_folder import find_data

        named = apply_overrides({}, overrides).get("data")
        options |= find_data(options["data.kind"], named if isinstance(named, dict) else {})
    path = find_config(name or DEFAULTS.get(options["data.kind"] or "synthetic", DEFAULT))
    return read_config(path, overrides, options)


def _network_of(source: str) -> str | dict:
    """The preset whose network weights have, or the network's options where there is none."""
    if source in list_presets():
        return source
    require("train", for_="Training")
    from retinaface_tf.weights.load import load_weights

    network = load_weights(source).config
    known = [name for name in list_presets() if get_preset(name).config == network]
    return known[0] if known else network.to_dict()


def resumed_config(
    out: Path, options: Mapping[str, Any], overrides: Sequence[str]
) -> TrainingConfig:
    """The configuration of the run in a folder, with the options that are given.

    Raises:
        ConfigError: there is no run.
    """
    if not is_file(out / CONFIG):
        raise ConfigError(f"--resume: {out} holds no run; name its folder with --out.")
    return read_config(out / CONFIG, overrides, options)


def find_config(name: str) -> Path:
    """A configuration by path, or by its name in `retinaface_tf/training/configs`.

    Raises:
        ConfigError: there is none.
    """
    if is_file(name):
        return Path(name)
    path = CONFIGS / f"{name}.toml"
    if is_file(path):
        return path
    known = sorted(
        p.relative_to(CONFIGS).with_suffix("").as_posix() for p in CONFIGS.rglob("*.toml")
    )
    raise ConfigError(
        f"There is no configuration {name!r}; give a file or one of: {', '.join(known)}."
    )


def run(
    config: TrainingConfig,
    out: Path,
    *,
    restart: bool,
    quiet: bool,
    strict: bool = False,
    engine: Engine = Engine(),
) -> None:
    """Trains, with notes of what happens on standard error and the results on standard output.

    Raises:
        MissingPackage: one that trains is not installed.
        RetinaFaceError: see `trainer.train` and `train_on_ray`.
    """
    require("train", for_="Training")
    if engine.name == "slurm":
        from retinaface_tf.training.distributed import join_slurm_step

        join_slurm_step()
    if restart and os.environ.get("TF_CONFIG"):
        raise ConfigError(
            "--restart cannot be used with several workers (TF_CONFIG), each of which would remove "
            f"what the others write; remove {out} yourself."
        )
    if restart:
        clear_folder(out, config)
    elif not os.environ.get("TF_CONFIG"):  # one of several workers: the chief does it
        claim_folder(out, config)
    if engine.name == "ray":
        from retinaface_tf.training.ray_train import train_on_ray

        result = train_on_ray(
            config,
            out,
            workers=engine.workers,
            address=engine.address,
            restarts=engine.restarts,
            strict=strict,
        )
    else:
        from retinaface_tf.training.trainer import train
        from retinaface_tf.util.progress import choose_track

        result = train(config, out, track=choose_track(quiet), notify=to_stderr, strict=strict)
    if result.after is not None:
        print(f"average precision before {result.before:.4f}, after {result.after:.4f}")
        print(f"best weights ({result.best:.4f}): {result.folder / 'best.weights.h5'}")
    print(f"weights: {result.folder / 'last.weights.h5'}")
    images = [str(path) for name in IMAGES if (path := result.folder / name).is_file()]
    print(f"images: {', '.join(images)}")
