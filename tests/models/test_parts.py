"""Every layer that learns belongs to a part, which can be copied, frozen and counted."""

from __future__ import annotations

import pytest

from retinaface_tf.config import DenseConfig, RetinaFaceConfig
from retinaface_tf.errors import ConfigError
from retinaface_tf.models import build_retinaface
from retinaface_tf.models.cost import network_cost
from retinaface_tf.models.parts import PARTS, freeze, layers_of, part_of
from retinaface_tf.presets import get_preset, list_presets


# One network of a kind is enough: a deeper ResNet, or a wider MobileNet, has the same names.
@pytest.mark.parametrize(
    "name", sorted({*list_presets()} - {"resnet152-paper", "mobilenet0.5", "mobilenet1.0", "yunet"})
)
def test_every_layer_with_weights_of_every_preset_has_a_part(name):
    config = get_preset(name).config
    network = build_retinaface(config)
    parts = {layer.name: part_of(layer.name) for layer in layers_of(network) if layer.weights}
    assert set(parts.values()) == {*PARTS} - ({"dense"} if config.dense is None else set())
    for layer, part in parts.items():
        # The heads are the layers that predict, a separable network's second ones among them.
        head = any(word in layer for word in ("_class", "_box", "_landmark"))
        assert (part == "heads") == head, layer


def test_cost_and_freezing_mean_the_same_parts():
    """Heads of a separable network are two convolutions a level, and both count as heads."""
    network = build_retinaface("lite")
    costs = network_cost(network.config, 320, 320)
    for part in ("backbone", "pyramid", "context", "heads"):
        mine = [layer for layer in network.layers if part_of(layer.name) == part]
        counted = sum(cost.parameters for (name, _), cost in costs.items() if name == part)
        assert counted == sum(layer.count_params() for layer in mine)


def test_freezing_takes_parts_and_names_and_names_mistakes():
    network = build_retinaface(RetinaFaceConfig(channels=16, cascade=True, dense=DenseConfig()))
    freeze(network, ("backbone", "p3_context", "dense"))
    learning = {layer.name for layer in layers_of(network) if layer.trainable_weights}
    assert not any(name.startswith(("stem", "block", "p3_context", "dense")) for name in learning)
    assert {"p4_context_3x3_conv", "p3_lateral_conv", "p3_class", "first_p3_class"} <= learning
    with pytest.raises(ConfigError, match="neck"):
        freeze(network, ("neck",))
