"""Loss terms of users' own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from retinaface_tf.util.registry import register, unregistered

OwnLoss = Callable[[dict[str, Any], dict[str, Any], Any], Any]
_OWN: dict[str, OwnLoss] = {}


def register_loss(name: str, term: OwnLoss) -> None:
    """Adds a loss term of your own: `loss.own = name` adds it, `loss.own_weight` weighs it.

    Args:
        name: as "mine:wing", with the module that calls this before the colon.
        term: takes the network's outputs, the targets (`losses.multitask.multitask_sums` says what
            both hold) and the anchors [A, 4], and answers each image's sum over its positives, [B].
            With the weight of a term of the papers at 0, yours takes its place.

    Raises:
        ConfigError: another term has this name, or it names no module.
    """
    register(_OWN, "loss", name, term)


def own_loss(name: str) -> OwnLoss:
    """The term of a name.

    Raises:
        ConfigError: it is not registered.
    """
    if name not in _OWN:
        raise unregistered("loss", name, _OWN)
    return _OWN[name]
