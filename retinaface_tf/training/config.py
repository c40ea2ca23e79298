"""Everything that decides a training run, typed and frozen; read from TOML or JSON files."""

from __future__ import annotations

import dataclasses
import json
import tomllib
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from retinaface_tf.config import DenseConfig, RetinaFaceConfig
from retinaface_tf.data.augment import AugmentConfig
from retinaface_tf.data.readers.registry import READERS
from retinaface_tf.data.synthetic.scene import SyntheticConfig
from retinaface_tf.data.targets import MatchConfig
from retinaface_tf.errors import ConfigError
from retinaface_tf.losses.distillation import DistillationConfig
from retinaface_tf.losses.multitask import LossConfig
from retinaface_tf.presets import get_preset
from retinaface_tf.training.schedule import ScheduleConfig

# float64 is for tests: there, runs that should agree do so to many digits.
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16", "float64")
# Those that are not a label file alone, and every format of label files.
KINDS = tuple(dict.fromkeys(("synthetic", "records", "fddb", "mesh-labels", *READERS)))


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which images.

    Attributes:
        kind: one of `KINDS`.
        root: folder of the data set; for "mesh-labels" the one that `data label-mesh` wrote.
        labels, images: its label file and image folder where they are not found under `root`.
        meshes: folder that `data label-mesh` wrote, whose meshes the faces of the set get.
        validation_labels, validation_images: the same of the set that is evaluated each epoch.
        validation_folds: FDDB's folds that are evaluated and not trained on.
        max_validation: at most so many images are evaluated, evenly picked; 0 for none.
        check: "full" decodes every image beforehand, "headers" reads sizes only.
        size: side of the network's square input in pixels.
        validation_size: short edge at which images are evaluated, None for their own size.
        batch: images in a global batch, over all devices.
    """

    kind: str = "synthetic"
    root: str | None = None
    labels: str | None = None
    images: str | None = None
    meshes: str | None = None
    validation_labels: str | None = None
    validation_images: str | None = None
    validation_folds: tuple[int, ...] = (9, 10)
    max_validation: int = 500
    check: str = "full"
    size: int = 640
    validation_size: int | None = None
    batch: int = 32

    def __post_init__(self):
        object.__setattr__(self, "validation_folds", tuple(self.validation_folds))
        if self.kind not in KINDS:
            raise ConfigError(f"data.kind={self.kind!r} must be one of {', '.join(KINDS)}.")
        if self.check not in ("full", "headers"):
            raise ConfigError(f"data.check={self.check!r} must be 'full' or 'headers'.")
        if self.size < 32 or self.batch < 1:
            raise ConfigError("data.size must be at least 32 and data.batch at least 1.")


@dataclass(frozen=True, kw_only=True)
class InitConfig:
    """Where the weights start.

    Attributes:
        source: "random", "imagenet" (keras.applications' backbone, downloaded), the name of a
            preset, or a file: our own weights, or any `retinaface-tf weights convert` reads.
        keep: the parts taken from the source, of "backbone", "pyramid", "context", "heads", "dense";
            the others start at random, and "dense" at the directions in which faces differ.
        freeze: parts, or beginnings of layers' names ("stem", "block1_"), that do not learn.
        measure_statistics: batch norm's statistics are measured before the first step, the function
            kept: for a source whose batch norm was folded into its convolutions.
        fix_statistics: batch norm uses the statistics it starts with in training too, instead of each
            batch's: for a trained network that learns on from small batches.
    """

    source: str = "random"
    keep: tuple[str, ...] = ("backbone", "pyramid", "context", "heads")
    freeze: tuple[str, ...] = ()
    measure_statistics: bool = False
    fix_statistics: bool = False

    def __post_init__(self):
        object.__setattr__(self, "keep", tuple(self.keep))
        object.__setattr__(self, "freeze", tuple(self.freeze))


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """How gradients become steps.

    Attributes:
        kind: "sgd" with momentum as in the papers, or "adam" (Kingma and Ba 2015), whose step for each
            weight has its own size: separable networks, whose depthwise kernels have gradients unlike
            those of the others, learn faster by it.
        momentum: of SGD.
        weight_decay: L2 factor on kernels only, not on biases or batch norm.
        clip_norm: largest norm of the whole batch's gradient; None for no limit.
        ema: decay of an exponential moving average of the weights and of batch norm's statistics, which
            is then what is evaluated and saved; None for none. See `MovingAverage`.
    """

    kind: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    clip_norm: float | None = None
    ema: float | None = None

    def __post_init__(self):
        if self.kind not in ("sgd", "adam"):
            raise ConfigError(f"optimizer.kind={self.kind!r} must be 'sgd' or 'adam'.")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """A whole run. Members are described in their own classes.

    Attributes:
        epochs: how many; 80 in the papers.
        precision: one of `PRECISIONS`.
        seed: of weights, order and augmentation.
        deterministic: TensorFlow's deterministic kernels, slower on GPUs.
        checkpoint_steps: steps between checkpoints; one is also written after each epoch.
        evaluate_epochs: epochs between evaluations; the last epoch is always evaluated.
        devices: replicas on this host; 0 takes every GPU, or the CPU.
    """

    network: RetinaFaceConfig = field(default_factory=RetinaFaceConfig)
    data: DataConfig = field(default_factory=DataConfig)
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    match: MatchConfig = field(default_factory=MatchConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    imitation: DistillationConfig = field(default_factory=DistillationConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    init: InitConfig = field(default_factory=InitConfig)
    epochs: int = 80
    precision: str = "float32"
    seed: int = 0
    deterministic: bool = False
    checkpoint_steps: int = 500
    evaluate_epochs: int = 1
    devices: int = 0

    def __post_init__(self):
        if self.precision not in PRECISIONS:
            raise ConfigError(
                f"precision={self.precision!r} must be one of {', '.join(PRECISIONS)}."
            )
        if min(self.epochs, self.checkpoint_steps, self.evaluate_epochs) < 1:
            raise ConfigError("epochs, checkpoint_steps and evaluate_epochs must be at least 1.")
        # L_mesh needs its branch; one that is not described is the papers'.
        if self.loss.mesh_weight and self.network.dense is None:
            network = dataclasses.replace(self.network, dense=DenseConfig())
            object.__setattr__(self, "network", network)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, fit for JSON."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainingConfig:
        """The inverse of `to_dict`; missing members have their defaults.

        "network" may be the name of a preset.

        Raises:
            ConfigError: a name is unknown or a value cannot be.
        """
        values = dict(values)
        network = values.pop("network", None)
        if isinstance(network, str):
            network = get_preset(network).config
        elif network is not None:
            network = RetinaFaceConfig.from_dict(network)
        config = _build(cls, values, "")
        return dataclasses.replace(config, network=network) if network else config


def read_config(path: Path | str, overrides: typing.Sequence[str] = ()) -> TrainingConfig:
    """A run's configuration from a `.toml` or `.json` file, with `key=value` overrides.

    Args:
        path: the file.
        overrides: such as "data.batch=8" or "schedule.milestones=[10, 20]"; values are TOML, and
            text needs no quotes.

    Raises:
        ConfigError: the file cannot be read, or a name or value is wrong.
    """
    return TrainingConfig.from_dict(apply_overrides(read_values(path), overrides))


def read_values(path: Path | str) -> dict[str, Any]:
    """The plain values of a configuration file; arguments and errors as `read_config`."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"Cannot read configuration {path}: {error.strerror}.") from None
    except ValueError as error:
        raise ConfigError(f"Configuration {path} cannot be parsed: {error}.") from None


def apply_overrides(values: dict[str, Any], overrides: typing.Sequence[str]) -> dict[str, Any]:
    """A copy of `values` with each "dotted.key=value" put in its place."""
    values = json.loads(json.dumps(values))
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"Override {override!r} is not understood: write key=value.")
        *parents, last = key.strip().split(".")
        place = values
        for parent in parents:
            inner = place.get(parent)
            place[parent] = place = inner if isinstance(inner, dict) else {}
        place[last] = _parse_value(text.strip())
    return values


def _parse_value(text: str) -> Any:
    if text.lower() in ("none", "null"):
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _build(cls, values: dict[str, Any], prefix: str):
    hints = typing.get_type_hints(cls)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ConfigError(
            f"Unknown option {prefix}{unknown[0]!r}; known are {', '.join(sorted(hints))}."
        )
    return cls(**{name: _convert(hints[name], v, prefix + name) for name, v in values.items()})


def _convert(hint, value, name: str):
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise ConfigError(f"{name}={value!r} must be a table of options.")
        return _build(hint, value, name + ".")
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    for option in options:
        if option is type(None):
            if value is None:
                return None
        elif typing.get_origin(option) is tuple:
            if isinstance(value, list | tuple):
                item = typing.get_args(option)[0]
                return tuple(_convert(item, v, name) for v in value)
        elif option is float and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        elif isinstance(value, option) and isinstance(value, bool) == (option is bool):
            return value
    raise ConfigError(f"{name}={value!r} has the wrong type; it must be {hint}.")
