"""Moves a network's scores so that 0.5 is the best threshold: `python training/center_scores.py --help`.

    python training/center_scores.py runs/last/last.weights.h5 runs/last/centered.weights.h5 \\
        --labels HELD_OUT.jsonl --images PHOTOS

The labels are lines as `detect --json` and `data pseudo-label` write them, of photos that were not trained on.

0.5 is the default threshold of `RetinaFace`. All scores move alike (as logits), so their order, and with it
every average precision, stays as it is. Networks whose scores are not probabilities of a face need it: that
of YuNet, converted, is the mean of two logits, and a teacher's scores also say how well a box fits.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import typer

from retinaface_tf.cli import run_script
from retinaface_tf.cli.options import Overwrite
from retinaface_tf.errors import DataError

if TYPE_CHECKING:
    from retinaface_tf.evaluation.average_precision import Curve
    from retinaface_tf.models import RetinaFaceNetwork


def best_threshold(curve: Curve) -> tuple[float, float]:
    """The score at which F1, the harmonic mean of precision and recall, is highest; and that F1.

    Args:
        curve: of at least one face and one detection.
    """
    import numpy as np

    f1 = 2 * curve.true_positives / (curve.counted + curve.num_faces)
    best = int(np.argmax(f1))
    return float(curve.thresholds[best]), float(f1[best])


def shift_scores(network: RetinaFaceNetwork, threshold: float) -> None:
    """Moves all scores so that what was `threshold`, within 0..1, is 0.5.

    Args:
        network: changed in place: the biases of its class heads.
        threshold: a score of the network as it is.
    """
    shift = math.log((1 - threshold) / threshold)
    for layer in network.layers:
        name = layer.name.removesuffix("_spread")
        last = layer.name.endswith("_spread") or not network.config.separable
        if last and name.endswith("_class"):
            *kernels, bias = layer.get_weights()
            bias[1::2] += shift  # background, face, background, ...
            layer.set_weights([*kernels, bias])


def main(
    weights: Annotated[Path, typer.Argument(help=".weights.h5 of a trained network")],
    out: Annotated[Path, typer.Argument(help="file to write, .weights.h5")],
    labels: Annotated[Path, typer.Option(help="labels of held-out photos, JSON lines")],
    images: Annotated[Path, typer.Option(metavar="DIR", help="the photos")],
    size: Annotated[int, typer.Option(help="short edge at which photos are searched")] = 480,
    overwrite: Overwrite = False,
) -> None:
    """Find the score at which F1 is highest and make it 0.5."""
    from retinaface_tf.data.readers.json_labels import read_json_labels
    from retinaface_tf.training.datasets import ValidationSet
    from retinaface_tf.training.evaluation import Evaluator
    from retinaface_tf.util.files import require_free
    from retinaface_tf.util.progress import rich_progress
    from retinaface_tf.weights.hdf5 import save_weights
    from retinaface_tf.weights.load import load_weights, require_file

    require_free(out, [weights, labels], overwrite=overwrite)
    network = load_weights(require_file(weights))
    photos = read_json_labels(labels, images)
    evaluator = Evaluator(network, ValidationSet(photos), size)
    with rich_progress("searching", len(photos)) as advance:
        curve = evaluator(advance).curve
    if not curve.num_faces or not len(curve.thresholds) or not curve.true_positives.any():
        raise DataError(
            f"In the {len(photos)} photos of {labels} no labelled face is found: no best threshold."
        )
    threshold, f1 = best_threshold(curve)
    shift_scores(network, threshold)
    save_weights(network, out)
    print(f"{out}: the score {threshold:.3f} is now 0.5; F1 there {f1:.3f} on {len(photos)} photos")


if __name__ == "__main__":
    run_script(main)
