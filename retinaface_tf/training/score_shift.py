"""Scores moved so that 0.5, the default threshold of `RetinaFace`, is the best threshold.

All scores move alike (as logits), so their order, and with it every average precision, stays as it is.
Networks whose scores are not probabilities of a face need it: that of YuNet, converted, is the mean of two
logits, and a teacher's scores also say how well a box fits.
"""

from __future__ import annotations

import math

import numpy as np

from retinaface_tf.evaluation.average_precision import Curve
from retinaface_tf.models import RetinaFaceNetwork


def best_threshold(curve: Curve) -> tuple[float, float]:
    """The score at which F1, the harmonic mean of precision and recall, is highest; and that F1.

    Args:
        curve: of at least one face and one detection.
    """
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
