"""Weights between those a training began with and those it came to.

A network that learns on from other data than it was first trained on gains there and forgets a little
elsewhere; weights between the two often keep most of both (Wortsman et al. 2022, "Robust fine-tuning of
zero-shot models").
"""

from __future__ import annotations

from retinaface_tf.errors import WeightsError
from retinaface_tf.models import RetinaFaceNetwork
from retinaface_tf.models.batch_norm import batch_norms, restate


def blend(first: RetinaFaceNetwork, second: RetinaFaceNetwork, share: float) -> RetinaFaceNetwork:
    """A network whose weights are (1 - share) of the first's plus share of the second's.

    Batch norm, which scales by its statistics, is first written with the same statistics in both: those of
    the identity, mean 0 and variance 1.

    Args:
        first, second: of the same configuration; both are changed so, not in what they compute.
        share: 0 for the first, 1 for the second.

    Returns:
        The first, with the new weights.

    Raises:
        WeightsError: the configurations differ.
    """
    if first.config != second.config:
        raise WeightsError(
            "Only weights of the same network can be blended; these two have different "
            "configurations."
        )
    for network in (first, second):
        for norm in batch_norms(network):
            restate(norm)
    pairs = zip(first.get_weights(), second.get_weights())
    first.set_weights([a + share * (b - a) for a, b in pairs])
    return first
