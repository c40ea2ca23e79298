"""Parts of a network by their layers' names: which learn, which are copied."""

import re

import keras

from retinaface_tf.errors import ConfigError
from retinaface_tf.models.retinaface import RetinaFaceNetwork

PARTS = ("backbone", "pyramid", "context", "heads", "dense")


def part_of(layer: str) -> str:
    """Which of `PARTS` a layer of that name belongs to; the backbone's may have any other name."""
    if layer == "dense_head":
        return "dense"
    layer = layer.removeprefix("first_")
    if re.match(r"p\d+_context", layer):
        return "context"
    if re.match(r"(head|p\d+)_(class|box|landmark)(_spread)?$", layer):
        return "heads"
    return "pyramid" if re.match(r"p\d+_", layer) else "backbone"


def layers_of(network: RetinaFaceNetwork) -> list[keras.layers.Layer]:
    """All layers; Keras does not count the dense head, as no output of the network is its."""
    return [*network.layers, *([network.dense_head] if network.dense_head else [])]


def freeze(network: RetinaFaceNetwork, chosen: tuple[str, ...]) -> int:
    """Stops layers from learning; their batch norm then uses its stored statistics.

    Args:
        network: changed in place.
        chosen: parts of `PARTS`, or beginnings of layers' names.

    Returns:
        Number of layers with weights that were frozen.

    Raises:
        ConfigError: something chosen matches no layer.
    """
    frozen = 0
    for name in chosen:
        found = [
            layer
            for layer in layers_of(network)
            if layer.weights and (part_of(layer.name) == name or layer.name.startswith(name))
        ]
        if not found:
            raise ConfigError(
                f"init.freeze has {name!r}, which is neither one of {', '.join(PARTS)} nor the "
                "beginning of a layer's name."
            )
        for layer in found:
            layer.trainable = False
        frozen += len(found)
    return frozen
