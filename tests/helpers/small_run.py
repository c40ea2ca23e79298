"""A training run of a few steps: `python -m tests.helpers.small_run OUT JSON`.

Writes the loss of every step to OUT/losses.json.
"""

import json
import sys
from pathlib import Path

from retinaface_tf.training.config import TrainingConfig
from retinaface_tf.training.trainer import train

VALUES = {
    "network": {"channels": 16},
    "data": {"size": 96, "batch": 4, "max_validation": 0},
    "synthetic": {"train": 12, "validation": 0, "size": 96, "max_faces": 3, "min_face": 20},
    "schedule": {"kind": "cosine", "peak": 0.01, "warmup_epochs": 0},
    "optimizer": {"clip_norm": 5.0},
    "epochs": 2,
    "checkpoint_steps": 1,
    "deterministic": True,
}


def small_config(**changes) -> TrainingConfig:
    return TrainingConfig.from_dict({**VALUES, **changes})


def run(folder: Path, changes: dict, name: str = "losses") -> None:
    losses = {}

    def note(step, logs):
        losses[step] = {k: float(v) for k, v in logs.items() if k != "bad_images"}
        print(f"step {step}", flush=True)

    try:
        train(small_config(**changes), folder, on_step=note)
    finally:
        # Workers that are not the chief write no folder.
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.json").write_text(json.dumps(losses))


if __name__ == "__main__":
    run(Path(sys.argv[1]), json.loads(sys.argv[2]), *sys.argv[3:])
