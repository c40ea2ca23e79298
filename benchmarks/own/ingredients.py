"""The rows of the ablation, and the labels they learn from: a budget of steps, the same for all."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from retinaface_tf.data.widerface import read_widerface
from retinaface_tf.errors import ConfigError
from retinaface_tf.presets import get_preset
from retinaface_tf.training.command import find_config
from retinaface_tf.training.config import TrainingConfig, apply_overrides, read_values

# The public networks' anchors.
PUBLIC_ANCHORS = (
    "[{stride=8, anchor_sizes=[16, 32]}, {stride=16, anchor_sizes=[64, 128]}, "
    "{stride=32, anchor_sizes=[256, 512]}]"
)
# Labels as the only ones that teach, matched with the boxes of the moment as YuNet's training does.
BY_LABELS = {
    "imitation.source": "none",
    "match.dynamic": "true",
    "match.positive_threshold": "0.65",
    "match.negative_threshold": "0.5",
    "loss.class_weight": "1",
    "loss.negatives_per_positive": "7",
    "loss.min_negatives": "100",
    "loss.box": "ciou",
    "loss.box_weight": "2",
    "loss.landmark_weight": "0.02",
    "loss.score_targets": "true",
}
RANDOM = {"init.source": "random", "init.narrow": "false", "init.freeze": "[]"}

# What each row changes of the recipe, as `--set` takes it. {labelled} is the list of really labelled photos,
# {start} weights of the recipe's own network, which fit one of another activation too. Rows that change
# nothing, the recipe being so, are left out.
ROWS: dict[str, dict[str, str]] = {
    "the recipe": {},
    "without small anchors": {"network.levels": PUBLIC_ANCHORS},
    "without pseudo-labels": {"data.labels": "{labelled}"},
    "without enlarged crops": {"augment.crop_scale": "[0.3, 1.0]"},
    "without distillation": {"loss.score_targets": "false"},
    "with distillation": {"loss.score_targets": "true"},
    "labels with their scores instead of the teacher's looks": BY_LABELS,
    "labels without scores instead of the teacher's looks": {
        **BY_LABELS,
        "loss.score_targets": "false",
    },
    "labels beside the teacher's looks": {
        key: value for key, value in BY_LABELS.items() if key != "imitation.source"
    },
    "a teacher with one look": {"imitation.scales": "[]", "imitation.mirrored": "[]"},
    "with batch norm by each batch": {"init.fix_statistics": "false"},
    "LeakyReLU 0.1": {"network.negative_slope": "0.1"},
    "ReLU, from the start file": {"init.source": "{start}", "init.narrow": "false"},
    "LeakyReLU 0.1, from the start file": {
        "network.negative_slope": "0.1",
        "init.source": "{start}",
        "init.narrow": "false",
    },
    "random start": RANDOM,
    "random start, LeakyReLU 0.1": {**RANDOM, "network.negative_slope": "0.1"},
}


@dataclasses.dataclass(frozen=True)
class Budget:
    """How long every row learns.

    Attributes:
        epochs: how many.
        photos: in each, a multiple of the batch.
        steps: in all.
    """

    epochs: int
    photos: int
    steps: int


def budget_of(steps: int, batch: int, photos: int) -> Budget:
    """Whole epochs of so many steps in all, or a few less, over at most so many photos.

    Raises:
        ConfigError: not one batch can be had.
    """
    if steps < 1 or photos < batch:
        raise ConfigError(f"{steps} steps of {batch} crops from {photos} photos are no training.")
    epochs = -(-steps * batch // photos)
    each = min(steps // epochs, photos // batch)
    return Budget(epochs, each * batch, epochs * each)


def read_recipe(config: str, overrides: Sequence[str]) -> dict:
    """The plain values of a configuration, its network spelled out so that parts can be changed."""
    values = read_values(find_config(config))
    network = next((o.partition("=")[2] for o in overrides if o.startswith("network=")), None)
    overrides = [o for o in overrides if not o.startswith("network=")]
    network = network or values.get("network")
    if isinstance(network, str):
        values["network"] = get_preset(network).config.to_dict()
    return apply_overrides(values, overrides)


def row_config(
    recipe: dict, changes: Mapping[str, str], budget: Budget, files: Mapping[str, Path]
) -> TrainingConfig:
    """The configuration of a row.

    Args:
        recipe: of `read_recipe`.
        changes: of `ROWS`.
        budget: its length; the first tenth warms up.
        files: "labels" and "labelled", the lists of the budget's photos; "start" where there is one.

    Raises:
        ConfigError: the training has no such option or value, or a file is missing.
    """
    fixed = {
        "data.labels": str(files["labels"]),
        # Judged at the end, in the way of the other figures.
        "data.max_validation": "0",
        "epochs": str(budget.epochs),
        "evaluate_epochs": str(budget.epochs),
        "checkpoint_steps": "50",
        "schedule.warmup_epochs": str(0.1 * budget.epochs),
        # An average over more steps than these would still be what they started from.
        "optimizer.ema": "none",
    }
    filled = {key: _filled(value, files) for key, value in changes.items()}
    values = apply_overrides(
        recipe, [f"{key}={value}" for key, value in {**fixed, **filled}.items()]
    )
    return TrainingConfig.from_dict(values)


def _filled(value: str, files: Mapping[str, Path]) -> str:
    for name in ("labelled", "start"):
        if value == f"{{{name}}}":
            if name not in files:
                raise ConfigError(f"It needs --{name} FILE.")
            return str(files[name])
    return value


def thinned(lines: Sequence[str], photos: int, seed: int = 0) -> list[str]:
    """So many lines of a list drawn by lot; of a short list all, again and again."""
    order = np.random.default_rng(seed).permutation(len(lines))
    return [lines[order[i % len(lines)]] for i in range(photos)]


def labelled_lines(data: Path) -> list[str]:
    """The photos that people labelled and no figure looks at, as `read_json_labels` takes them."""
    folder = data.resolve() / "wider/train"
    images = read_widerface(folder / "wider_face_train_bbx_gt.txt", folder / "images")
    return [
        json.dumps(
            {
                "image": str(image.path),
                "faces": [
                    {"box": box.tolist(), **({"ignored": True} if ignored else {})}
                    for box, ignored in zip(image.boxes, image.ignored)
                ],
            }
        )
        for image in images
    ]
