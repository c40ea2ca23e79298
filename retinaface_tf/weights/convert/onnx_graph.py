"""Reads a detector's ONNX graph in which batch norm is folded into the convolutions.

An exporter renames the tensors (`onnx::Conv_587`), so names say nothing. What stays is how the
convolutions are wired: this reader reduces the graph to its convolutions and matches them with the
public layout's by shape, stride, activation and neighbours.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from retinaface_tf.config import ImageFormat
from retinaface_tf.errors import WeightsError
from retinaface_tf.weights.convert.filling import (
    Values,
    fill_network,
    folded_norm_values,
    misfit,
    our_kernel,
    some,
)
from retinaface_tf.weights.convert.public_layout import Inputs, public_units

if TYPE_CHECKING:
    import onnx

    from retinaface_tf.models import RetinaFaceNetwork

# Feature maps behind one another; each Concat of a map with itself would double them.
_MOST_JOINED = 256
# Nodes a feature map passes through as the same map, for the wiring's purpose.
_TRANSPARENT = {"Identity", "Clip", "Dropout", "LeakyRelu", "MaxPool", "Relu", "Resize", "Upsample"}


@dataclass(frozen=True, kw_only=True)
class _Convolution:
    """A convolution as both sides know it: `kernel` is [height, width, in, out] or, depthwise,
    [height, width, channels, 1]."""

    kernel: tuple[int, ...]
    inputs: Inputs
    strides: int
    activation: tuple[float | None, float | None]  # slope and ceiling

    @property
    def kind(self) -> tuple:
        """What it is like, wherever it stands."""
        return self.kernel, self.strides, self.activation


def fill_from_onnx(
    network: RetinaFaceNetwork, content: bytes, source: str, images: ImageFormat
) -> None:
    """Fills a network from the bytes of an ONNX file that takes images minus the mean, [B, 3, H, W].

    The folded bias becomes the batch norm's offset, its other numbers those of the identity.

    Raises:
        WeightsError: not such a graph, or it and the network differ.
    """
    graph = _Graph(parse_graph(content, source), source)
    units = {unit.layer: unit for unit in public_units(network.config)}
    wanted = {}
    for name, unit in units.items():
        layer = network.get_layer(name if unit.norm is None else f"{name}_conv")
        wanted[name] = _Convolution(
            kernel=tuple(layer.kernel.shape),
            inputs=unit.inputs,
            strides=unit.strides,
            activation=(unit.slope, unit.ceiling),
        )
    matches = _match(wanted, graph.convolutions, source, network.config.backbone)
    values: Values = {}
    for name, unit in units.items():
        kernel, bias = graph.weights[matches[name]]
        if unit.norm is None:
            values[name, "kernel"], values[name, "bias"] = kernel, bias
            continue
        values[f"{name}_conv", "kernel"] = kernel
        values |= folded_norm_values(network, name, bias)
    fill_network(network, values, source, images=images)


def parse_graph(content: bytes, source: str) -> onnx.GraphProto:
    """The graph in the bytes of an ONNX file.

    Raises:
        WeightsError: there is none.
    """
    import onnx

    try:
        graph = onnx.ModelProto.FromString(content).graph
    except Exception:
        raise WeightsError(
            f"{source} is not a weights file this package reads (.weights.h5, .keras, .pth or "
            ".onnx), or it is truncated; copy or download it again."
        ) from None
    if not graph.node or not graph.input:
        raise WeightsError(f"{source} holds no ONNX graph; copy or download it again.")
    return graph


def read_tensors(graph: onnx.GraphProto, source: str) -> dict[str, np.ndarray]:
    """The graph's initialisers by name.

    Raises:
        WeightsError: one lies in another file, is damaged or is there twice.
    """
    import onnx
    from onnx import numpy_helper

    tensors = {}
    for tensor in graph.initializer:
        # Such a tensor names another file, which could be any file of this computer.
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise WeightsError(
                f"{source} keeps {tensor.name!r} in another file; save it as one file."
            )
        if tensor.name in tensors:
            raise WeightsError(f"{source} holds the tensor {tensor.name!r} twice.")
        try:
            tensors[tensor.name] = numpy_helper.to_array(tensor)
        except Exception as error:
            raise WeightsError(
                f"{source} has a damaged tensor {tensor.name!r} ({error}); copy or download it again."
            ) from None
    return tensors


def read_scalars(graph: onnx.GraphProto, tensors: dict[str, np.ndarray]) -> dict[str, float]:
    """Numbers that nodes are given, as initialisers or constants, by name."""
    from onnx import numpy_helper

    constants = {
        node.output[0]: numpy_helper.to_array(item.t)
        for node in graph.node
        if node.op_type == "Constant"
        for item in node.attribute
        if item.name == "value" and len(item.t.dims) == 0
    }
    return {name: float(value) for name, value in (tensors | constants).items() if value.ndim == 0}


class _Graph:
    """A graph reduced to its convolutions.

    Attributes:
        convolutions: by name of the node's output; equal ones on equal inputs (an exporter that
            copies a shared branch) are one.
        weights: (kernel in our layout, bias) by the same names.
    """

    def __init__(self, graph: onnx.GraphProto, source: str):
        self._source = source
        self._graph = graph
        self._tensors = read_tensors(graph, source)
        self._scalars = read_scalars(graph, self._tensors)
        self._used: set[str] = set()
        self._readers: dict[str, list] = {}
        for node in graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self.convolutions: dict[str, _Convolution] = {}
        self.weights: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._walk()
        unused = [name for name, t in self._tensors.items() if name not in self._used and t.ndim]
        if unused:
            raise WeightsError(
                f"{source} holds {len(unused)} tensors that no convolution uses ({some(unused)}); "
                "it is not a RetinaFace graph with folded batch norm."
            )

    def _walk(self) -> None:
        """Follows feature maps from the image; what a convolution does not reach is left out."""
        tensors = self._tensors
        origin = {}  # initialiser behind a chain of Identity nodes
        maps: dict[str, Inputs] = {
            value.name: () for value in self._graph.input if value.name not in tensors
        }
        unique: dict[tuple, str] = {}
        for node in self._graph.node:
            kind = node.op_type
            if kind == "BatchNormalization":
                raise WeightsError(
                    f"{self._source} has batch norm that is not folded into its convolutions; "
                    "export the network in inference mode, or convert its .pth file."
                )
            if kind == "Identity" and origin.get(node.input[0], node.input[0]) in tensors:
                origin[node.output[0]] = origin.get(node.input[0], node.input[0])
            elif kind == "Conv":
                self._add_convolution(node, maps, origin, unique)
            elif not node.input or node.input[0] not in maps:
                continue
            elif kind in _TRANSPARENT:
                maps[node.output[0]] = maps[node.input[0]]
            elif kind == "Add" and all(len(maps.get(name, ())) == 1 for name in node.input):
                maps[node.output[0]] = (frozenset().union(*(maps[n][0] for n in node.input)),)
            elif kind == "Concat" and all(name in maps for name in node.input):
                joined = sum((maps[name] for name in node.input), ())
                if len(joined) > _MOST_JOINED:
                    raise WeightsError(f"{self._source} joins more feature maps than any detector.")
                maps[node.output[0]] = joined
            # Anything else (the heads' Transpose, Reshape, Softmax) ends the trace: a convolution
            # behind it is refused.

    def _add_convolution(self, node, maps, origin, unique) -> None:
        from onnx import helper

        where = node.name or node.output[0]
        options = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        names = [origin.get(name, name) for name in node.input[1:] if name]
        if node.input[0] not in maps:
            raise WeightsError(
                f"{self._source} feeds the convolution {where!r} through a node this reader does "
                "not know; only a plain RetinaFace graph that takes BGR minus the mean converts."
            )
        if any(name not in self._tensors for name in names):
            raise WeightsError(
                f"{self._source} computes the weights of {where!r}; it must hold them."
            )
        kernel = self._tensors[names[0]]
        self._used.update(names)
        if kernel.ndim != 4:
            raise WeightsError(f"{self._source} has a kernel {names[0]!r} of shape {kernel.shape}.")
        bias = self._tensors[names[1]] if len(names) > 1 else np.zeros(len(kernel), np.float32)
        group, strides = options.get("group", 1), options.get("strides", [1, 1])
        size = kernel.shape[2]
        depthwise = group > 1 and kernel.shape[1] == 1 and group == len(kernel)
        if (
            (group > 1 and not depthwise)
            or set(options.get("dilations", [1])) != {1}
            or list(options.get("pads", [0] * 4)) != [size // 2] * 4
            or options.get("auto_pad", b"NOTSET") != b"NOTSET"
            or len(set(strides)) != 1
        ):
            raise WeightsError(
                f"{self._source} has a convolution {where!r} with groups, dilation or padding that "
                "no RetinaFace network has."
            )
        kernel = our_kernel(kernel)
        convolution = _Convolution(
            kernel=kernel.shape,
            inputs=maps[node.input[0]],
            strides=strides[0],
            activation=self._activation_behind(node.output[0]),
        )
        digest = hashlib.sha256(kernel.tobytes() + bias.tobytes()).digest()
        name = unique.setdefault((convolution, digest), node.output[0])
        self.convolutions.setdefault(name, convolution)
        self.weights.setdefault(name, (kernel, bias))
        maps[node.output[0]] = (frozenset({name}),)

    def _activation_behind(self, output: str) -> tuple[float | None, float | None]:
        readers = self._readers.get(output, [])
        if len(readers) != 1:
            return None, None
        (node,) = readers
        numbers = {item.name: float(item.f) for item in node.attribute}
        if node.op_type == "Relu":
            return 0.0, None
        if node.op_type == "LeakyRelu":
            # A slope of 0 is ReLU, whatever the exporter calls it.
            return round(numbers.get("alpha", 0.01), 4), None
        if node.op_type == "Clip":
            floor, ceiling = (
                self._scalars.get(name, numbers.get(attribute))
                for name, attribute in zip((*node.input[1:], "", ""), ("min", "max"))
            )
            if floor == 0:
                return 0.0, ceiling
        return None, None


def _match(
    wanted: dict[str, _Convolution], found: dict[str, _Convolution], source: str, backbone: str
) -> dict[str, str]:
    """Pairs two wirings: colours of nodes are refined by their neighbours' until each is unique.

    (Weisfeiler and Lehman's refinement; equal colours after it mean equal places.)
    """
    problems = {
        "convolutions are missing": _left_over(wanted, found),
        "convolutions have no place": _left_over(found, wanted),
    }
    if any(problems.values()):
        raise misfit(source, backbone, problems, (c.kernel for c in found.values()))
    numbers: dict[tuple, int] = {}
    colours = [
        {name: _number(numbers, c.kind) for name, c in side.items()} for side in (wanted, found)
    ]
    for _ in range(len(wanted)):
        if len(set(colours[0].values())) == len(wanted):
            break
        colours = [_refine(side, known, numbers) for side, known in zip((wanted, found), colours)]
    by_colour = {colour: name for name, colour in colours[1].items()}
    if set(by_colour) != set(colours[0].values()) or len(by_colour) != len(wanted):
        raise WeightsError(
            f"{source} has the convolutions of a {backbone} network, but wired in another way; "
            "it is a different detector and cannot be converted."
        )
    return {name: by_colour[colour] for name, colour in colours[0].items()}


def _number(numbers: dict[tuple, int], key: tuple) -> int:
    return numbers.setdefault(key, len(numbers))


def _refine(side: dict[str, _Convolution], colours: dict[str, int], numbers) -> dict[str, int]:
    readers: dict[str, list] = {name: [] for name in side}
    for name, convolution in side.items():
        for slot, sources in enumerate(convolution.inputs):
            for behind in sources:
                readers[behind].append((slot, colours[name]))
    return {
        name: _number(
            numbers,
            (
                colours[name],
                tuple(tuple(sorted(colours[s] for s in slot)) for slot in c.inputs),
                tuple(sorted(readers[name])),
            ),
        )
        for name, c in side.items()
    }


def _left_over(side: dict[str, _Convolution], other: dict[str, _Convolution]) -> list[str]:
    """Convolutions of one side that the other has too few of."""
    there, names = Counter(c.kind for c in other.values()), []
    for name, convolution in side.items():
        there[convolution.kind] -= 1
        if there[convolution.kind] < 0:
            names.append(f"{name} {'x'.join(map(str, convolution.kernel))}")
    return names
