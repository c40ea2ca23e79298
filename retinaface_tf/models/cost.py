"""What a network costs: parameters and arithmetic, by part and by level."""

from dataclasses import dataclass

from keras import layers

from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.layers.deformable_conv import DeformableConv2D
from retinaface_tf.models.parts import PARTS, part_of
from retinaface_tf.models.retinaface import RetinaFaceNetwork


@dataclass
class Cost:
    """Of one part on one level.

    Attributes:
        parameters: of its layers, batch norm's statistics included.
        flops: multiplications and additions of its convolutions for one image.
    """

    parameters: int = 0
    flops: int = 0


def network_cost(config: RetinaFaceConfig, height: int, width: int) -> dict[tuple[str, int], Cost]:
    """Cost by part (of `PARTS`) and level (n is stride 2**n; heads shared by all levels have their
    parameters at level 0).

    Args:
        config: the network.
        height, width: of one image in pixels; multiples of the coarsest stride.
    """
    network = RetinaFaceNetwork(config, (height, width, 3))
    costs: dict[tuple[str, int], Cost] = {}
    for layer in network.layers:
        part = part_of(layer.name)
        nodes = [node for node in layer._inbound_nodes if len(node.outputs[0].shape) == 4]
        if not nodes or not layer.weights:
            continue
        levels = [(height // node.outputs[0].shape[1]).bit_length() - 1 for node in nodes]
        for node, level in zip(nodes, levels):
            cost = costs.setdefault((part, level), Cost())
            cost.flops += _flops(layer, node.outputs[0].shape)
        home = levels[0] if len(levels) == 1 else 0
        cost = costs.setdefault((part, home), Cost())
        cost.parameters += layer.count_params()
    return dict(sorted(costs.items(), key=lambda item: (PARTS.index(item[0][0]), item[0][1])))


def _flops(layer, output) -> int:
    cells = output[1] * output[2]
    if isinstance(layer, DeformableConv2D):
        kh, kw, channels, predicted = layer.offset_kernel.shape
        plain = kh * kw * layer.kernel.shape[2] * layer.filters
        # Four corners of each sample: a multiplication and an addition for each channel.
        return cells * (2 * (plain + kh * kw * channels * predicted) + 8 * kh * kw * channels)
    if isinstance(layer, layers.DepthwiseConv2D):
        return 2 * cells * layer.kernel.shape[0] * layer.kernel.shape[1] * output[3]
    if isinstance(layer, layers.Conv2D):
        kh, kw, channels, filters = layer.kernel.shape
        return 2 * cells * kh * kw * channels * filters
    return 0
