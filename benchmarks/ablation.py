"""What cascade and deformable convolutions bring: one budget, four networks, one table.

    python benchmarks/ablation.py --out runs/ablation [retinaface_tf/training/configs/synthetic-small.toml]
        [--rows plain "+ both"] [--seeds 0 1] [--set KEY=VALUE ...]

Every row is the same training run with one or both of `network.cascade` and `network.deformable`
set; it goes on from its last checkpoint when started again. Printed: average precision at IoU 0.5
and its mean over 0.5:0.05:0.95 on the held-out images, parameters and seconds.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

ROWS = {
    "plain": {},
    "+ deformable": {"deformable": True},
    "+ cascade": {"cascade": True},
    "+ both": {"deformable": True, "cascade": True},
}
CONFIG = (
    Path(__file__).parent.parent / "retinaface_tf" / "training" / "configs" / "synthetic-small.toml"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("config", nargs="?", type=Path, default=CONFIG)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    options = parser.parse_args()

    from retinaface_tf.training.config import read_config

    base = read_config(options.config, options.overrides)
    results = []
    for seed in options.seeds:
        for name in options.rows:
            network = dataclasses.replace(base.network, **ROWS[name])
            config = dataclasses.replace(base, network=network, seed=seed)
            folder = options.out / f"{name.strip('+ ')}-{seed}"
            results.append((f"{name}, seed {seed}", *run(config, folder)))
    print(f"\n{'network':24s} {'AP@0.5':>8s} {'mAP':>8s} {'parameters':>11s} {'seconds':>8s}")
    for name, precision, mean, parameters, seconds in results:
        print(f"{name:24s} {precision:8.4f} {mean:8.4f} {parameters:11,d} {seconds:8.0f}")


def run(config, folder: Path) -> tuple[float, float, int, float]:
    from retinaface_tf.evaluation.average_precision import match_detections, precision_recall_curve
    from retinaface_tf.training.datasets import open_data_sets
    from retinaface_tf.training.evaluation import Evaluator
    from retinaface_tf.training.trainer import train
    from retinaface_tf.util.progress import no_progress
    from retinaface_tf.weights.load import load_weights

    start = time.monotonic()
    train(config, folder, notify=lambda line: print(f"{folder.name}: {line}", flush=True))
    seconds = time.monotonic() - start
    network = load_weights(folder / "last.weights.h5")
    validation = open_data_sets(config, no_progress).validation
    found = Evaluator(network, validation, config.data.validation_size)().faces
    matches = match_detections(
        [(faces.boxes, faces.scores) for faces in found], [i.boxes for i in validation.images]
    )
    import numpy as np

    ignored = np.concatenate([image.ignored for image in validation.images])
    precisions = [
        precision_recall_curve(matches, ignored, threshold).average_precision
        for threshold in np.arange(0.5, 0.96, 0.05)
    ]
    return precisions[0], float(np.mean(precisions)), network.count_params(), seconds


if __name__ == "__main__":
    main()
