"""Everything that decides a training run, typed and frozen; read from TOML or JSON files.

Importing this loads neither TensorFlow nor Keras.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from retinaface_tf.config import DenseConfig, RetinaFaceConfig
from retinaface_tf.data.options import AugmentConfig, MatchConfig, SyntheticConfig
from retinaface_tf.data.readers.registry import READERS, require_categories
from retinaface_tf.errors import ConfigError
from retinaface_tf.losses.config import DistillationConfig, LossConfig
from retinaface_tf.presets import get_preset
from retinaface_tf.util.options import (
    MAX_SEED,
    apply_overrides,
    check_choice,
    check_range,
    from_dict,
    read_options,
    set_option,
)

# float64 is for tests: there, runs that should agree do so to many digits.
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16", "float64")
# Those that are not a label file alone, and every format of label files.
KINDS = tuple(dict.fromkeys(("synthetic", "records", "fddb", "mesh-labels", *READERS)))


def is_kind(name: str | None) -> bool:
    """Whether this may be a kind of data: one of `KINDS`, or of a user's reader, registered or not."""
    return name in KINDS or (
        name is not None and all(name.partition(":")) and not Path(name).exists()
    )


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which images.

    Attributes:
        kind: one of `KINDS`, or "module:name" of your own, see `register_reader`.
        root: folder of the data set; for "mesh-labels" the one that `data label-mesh` wrote.
        labels, images: its label file and image folder where they are not found under `root`.
        category: name or id of the category of coco, yolo, labelme or voc labels that is faces; None for the only one or "face".
        ignore: attributes of faces that are not learnt, see `ignore_faces`, such as "blur=2".
        paste, paste_images: label file, as kind "json", and image folder of the faces that
            `augment.paste` puts into images.
        meshes: folder that `data label-mesh` wrote, whose meshes the faces of the set get.
        validation_labels, validation_images: the same of the set that is evaluated each epoch.
        validation_folds: FDDB's folds that are evaluated and not trained on.
        validation_share: part of the photos that is kept for validation where the data has no set of
            its own; near-duplicates are on one side, and a photo stays there when others are added.
        max_validation: most images that are evaluated, evenly picked; 0 for none.
        epoch_images: a smaller set is gone through several times in an epoch, up to about so many.
        check: "full" decodes every image beforehand, "headers" reads sizes only.
        size: side of the network's square input in pixels.
        validation_size: short edge at which images are evaluated, None for their own size.
        batch: images in a global batch, over all devices.
    """

    kind: str = "synthetic"
    root: str | None = None
    labels: str | None = None
    images: str | None = None
    category: str | int | None = None
    ignore: tuple[str, ...] = ()
    paste: str | None = None
    paste_images: str | None = None
    meshes: str | None = None
    validation_labels: str | None = None
    validation_images: str | None = None
    validation_folds: tuple[int, ...] = (9, 10)
    validation_share: float = 0.0
    max_validation: int = 500
    epoch_images: int = 0
    check: str = "full"
    size: int = 640
    validation_size: int | None = None
    batch: int = 32

    def __post_init__(self):
        if not is_kind(self.kind):
            check_choice(self, "data", "kind", KINDS)
        check_choice(self, "data", "check", ("full", "headers"))
        check_range(self, "data", "size validation_size", 32, 8192)
        check_range(self, "data", "batch", 1)
        check_range(self, "data", "max_validation epoch_images", 0)
        check_range(self, "data", "validation_share", 0, 0.9)
        check_range(self, "data", "validation_folds", 1)
        require_categories(self.kind, self.category)


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """The learning rate over the epochs; the defaults are the papers' (1905.00641, section 4.2).

    Attributes:
        kind: "steps" or "cosine".
        peak: rate after the warm-up.
        warmup_start: rate of the first step.
        warmup_epochs: length of the linear rise, may be a fraction; 0 for none.
        milestones: epochs after which "steps" multiplies the rate by `factor`.
        factor: see `milestones`.
        final: rate at the end of "cosine".
    """

    kind: str = "steps"
    peak: float = 1e-2
    warmup_start: float = 1e-3
    warmup_epochs: float = 5.0
    milestones: tuple[float, ...] = (55.0, 68.0)
    factor: float = 0.1
    final: float = 0.0

    def __post_init__(self):
        check_choice(self, "schedule", "kind", ("steps", "cosine"))
        check_range(self, "schedule", "warmup_start warmup_epochs milestones factor final", 0)
        if self.peak <= 0:
            raise ConfigError(f"schedule.peak={self.peak} must be positive.")


@dataclass(frozen=True, kw_only=True)
class InitConfig:
    """Where the weights start.

    Attributes:
        source: "random", "imagenet" (keras.applications' backbone, downloaded), the name of a
            preset, or a file: our own weights, or any `retinaface-tf weights convert` reads.
        keep: the parts taken from the source, of "backbone", "pyramid", "context", "heads", "dense";
            the others start at random, and "dense" at the directions in which faces differ.
        fresh: beginnings of layers' names that start at random, though their part is kept: layers
            that the source lacks.
        freeze: parts, or beginnings of layers' names ("stem", "block1_"), that do not learn.
        measure_statistics: batch norm's statistics are measured before the first step, the function
            kept; so are folded ones wherever they are not fixed.
        fix_statistics: batch norm uses the statistics it starts with in training too, instead of each
            batch's: for a trained network that learns on from small batches. None: where the source
            has it folded into its convolutions, so that nothing is normalised there.
    """

    source: str = "random"
    keep: tuple[str, ...] = ("backbone", "pyramid", "context", "heads")
    fresh: tuple[str, ...] = ()
    freeze: tuple[str, ...] = ()
    measure_statistics: bool = False
    fix_statistics: bool | None = None


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
        check_choice(self, "optimizer", "kind", ("sgd", "adam"))
        check_range(self, "optimizer", "weight_decay clip_norm", 0)
        check_range(self, "optimizer", "momentum ema", 0, 1)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """A whole run. Members are described in their own classes.

    Attributes:
        epochs: how many; 80 in the papers.
        patience: a run ends after so many epochs without a better average precision; 0 for never.
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
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    init: InitConfig = field(default_factory=InitConfig)
    epochs: int = 80
    patience: int = 0
    precision: str = "float32"
    seed: int = 0
    deterministic: bool = False
    checkpoint_steps: int = 500
    evaluate_epochs: int = 1
    devices: int = 0

    def __post_init__(self):
        check_choice(self, "", "precision", PRECISIONS)
        check_range(self, "", "epochs checkpoint_steps evaluate_epochs", 1)
        check_range(self, "", "devices patience", 0)
        check_range(self, "", "seed", 0, MAX_SEED)
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

        "network" may be the name of a preset. What earlier versions wrote is still read: the section
        "imitation", now "distillation", and "init.narrow" where it is false.

        Raises:
            ConfigError: a name is unknown, or a value has the wrong type or is out of range.
        """
        values = _with_network(values)
        if "imitation" in values:
            old, new = values.pop("imitation"), values.get("distillation", {})
            tables = isinstance(old, dict) and isinstance(new, dict)
            values["distillation"] = {**new, **old} if tables else old
        init = values.get("init")
        if isinstance(init, dict) and "narrow" in init:
            if init["narrow"]:
                raise ConfigError("init.narrow was removed; choose a source of the same width.")
            values["init"] = {name: value for name, value in init.items() if name != "narrow"}
        return from_dict(cls, values)


def read_config(
    path: Path | str, overrides: Sequence[str] = (), options: Mapping[str, Any] = {}
) -> TrainingConfig:
    """A run's configuration from a `.toml` or `.json` file, with options and overrides.

    Args:
        path: the file.
        overrides: such as "data.batch=8" or "schedule.milestones=[10, 20]"; values are TOML, and
            text needs no quotes.
        options: values by their dotted names, None for none; `overrides` win over them.

    Raises:
        ConfigError: the file cannot be read, or a name or value is wrong.
    """
    values = read_options(path)
    for name, value in options.items():
        if value is not None:
            set_option(values, name, value)
    return TrainingConfig.from_dict(apply_overrides(_with_network(values), overrides))


def _with_network(values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy with the options of a preset's network, and those it learns by, where the values name one."""
    values = dict(values)
    if not isinstance(values.get("network"), str):
        return values
    preset = get_preset(values["network"])
    values["network"] = preset.config.to_dict()
    for section, options in preset.training.items():
        values[section] = {**options, **values.get(section, {})}
    return values
