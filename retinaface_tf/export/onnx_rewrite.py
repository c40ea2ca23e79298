"""Rewrites of a converted ONNX graph that change its speed and nothing else.

What suits XNNPACK's maps of channels last costs onnxruntime, whose convolutions take channels
first: normalising the input takes a third of the network's time there, for want of a fast way to
add three numbers along the last axis.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

_TO_CHANNELS_FIRST = [0, 3, 1, 2]


def rewrite(model: ModelProto) -> None:
    """Applies every rewrite to a model, in place."""
    graph = _Graph(model)
    _normalize_channels_first(graph)
    _pad_in_the_convolution(graph)
    _resize_to_repeat_cells(graph)
    graph.drop_unused()


def rename_tensor(graph: GraphProto, old: str, new: str) -> None:
    """Gives a tensor another name in every node that makes or reads it."""
    for node in graph.node:
        node.output[:] = [new if name == old else name for name in node.output]
        node.input[:] = [new if name == old else name for name in node.input]


class _Graph:
    """A model's nodes by what they make and who reads it."""

    def __init__(self, model: ModelProto):
        self.proto = model.graph
        self.outputs = {output.name for output in self.proto.output}

    def nodes(self, kind: str) -> list[NodeProto]:
        return [node for node in self.proto.node if node.op_type == kind]

    def maker(self, name: str) -> NodeProto | None:
        return next((node for node in self.proto.node if name in node.output), None)

    def readers(self, name: str) -> list[NodeProto]:
        return [node for node in self.proto.node if name in node.input]

    def constant(self, name: str) -> np.ndarray | None:
        from onnx import numpy_helper

        for tensor in self.proto.initializer:
            if tensor.name == name:
                return numpy_helper.to_array(tensor)
        node = self.maker(name)
        if node is not None and node.op_type == "Constant":
            return numpy_helper.to_array(node.attribute[0].t)
        return None

    def add_constant(self, name: str, values: np.ndarray) -> str:
        from onnx import numpy_helper

        self.proto.initializer.append(numpy_helper.from_array(values, name))
        return name

    def drop_unused(self) -> None:
        """Removes nodes and initializers that nothing reads any more."""
        while True:
            read = {name for node in self.proto.node for name in node.input} | self.outputs
            unread = [node for node in self.proto.node if not read.intersection(node.output)]
            if not unread:
                break
            for node in unread:
                self.proto.node.remove(node)
        for tensor in [tensor for tensor in self.proto.initializer if tensor.name not in read]:
            self.proto.initializer.remove(tensor)


def _normalize_channels_first(graph: _Graph) -> None:
    """image -> Mul, Add -> Transpose becomes image -> Transpose -> Mul, Add."""
    for transpose in graph.nodes("Transpose"):
        if list(_attribute(transpose, "perm", ())) != _TO_CHANNELS_FIRST:
            continue
        chain = []
        value = transpose.input[0]
        while value != graph.proto.input[0].name:
            node = graph.maker(value)
            if node is None or node.op_type not in ("Mul", "Add") or len(graph.readers(value)) > 1:
                break
            factors = graph.constant(node.input[1])
            if factors is None or factors.ndim > 1:
                break
            chain.insert(0, (node, factors))
            value = node.input[0]
        if value != graph.proto.input[0].name or not chain:
            continue
        # The nodes keep their order; the transposition goes first and hands on its output name.
        image, result = value, transpose.output[0]
        transpose.input[0], transpose.output[0] = image, f"{image}_channels_first"
        value = transpose.output[0]
        graph.proto.node.remove(transpose)
        graph.proto.node.insert(0, transpose)
        for node, factors in chain:
            if node.op_type == "Mul" and (factors == 1).all():
                continue
            name = f"{node.name or node.output[0]}_channels_first"
            node.input[0] = value
            node.input[1] = graph.add_constant(name, factors.reshape(-1, 1, 1))
            value = node.output[0]
        rename_tensor(graph.proto, result, value)


def _pad_in_the_convolution(graph: _Graph) -> None:
    """Pad with zeros -> Conv becomes Conv with those pads."""
    from onnx import helper

    for pad in graph.nodes("Pad"):
        readers = graph.readers(pad.output[0])
        if [node.op_type for node in readers] != ["Conv"] or pad.output[0] in graph.outputs:
            continue
        (conv,) = readers
        pads = graph.constant(pad.input[1])
        fill = graph.constant(pad.input[2]) if len(pad.input) > 2 and pad.input[2] else 0
        if pads is None or fill is None or np.any(fill):
            continue
        begin, end = pads.reshape(2, -1)
        if begin[:2].any() or end[:2].any() or _attribute(pad, "mode", b"constant") != b"constant":
            continue
        if _attribute(conv, "auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
            continue
        rank = len(begin) - 2
        own = np.asarray(_attribute(conv, "pads", [0] * 2 * rank))
        for attribute in [a for a in conv.attribute if a.name in ("pads", "auto_pad")]:
            conv.attribute.remove(attribute)
        joined = own + np.concatenate([begin[2:], end[2:]])
        conv.attribute.append(helper.make_attribute("pads", joined.tolist()))
        conv.input[0] = pad.input[0]


def _resize_to_repeat_cells(graph: _Graph) -> None:
    """Four copies of a map spread by DepthToSpace become a nearest-neighbour Resize by two."""
    from onnx import helper

    for spread in graph.nodes("DepthToSpace"):
        copies = graph.maker(spread.input[0])
        if copies is None or copies.op_type != "Concat" or len(set(copies.input)) != 1:
            continue
        if len(copies.input) != 4 or _attribute(spread, "blocksize", 0) != 2:
            continue
        scales = graph.add_constant(f"{spread.output[0]}_scales", np.float32([1, 1, 2, 2]))
        resize = helper.make_node(
            "Resize",
            [copies.input[0], "", scales],
            list(spread.output),
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
        spread.CopyFrom(resize)


def _attribute(node: NodeProto, name: str, default):
    from onnx import helper

    for attribute in node.attribute:
        if attribute.name == name:
            return helper.get_attribute_value(attribute)
    return default
