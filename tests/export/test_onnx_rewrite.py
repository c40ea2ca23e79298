"""Rewrites of an ONNX graph: the quick form, and the same numbers by ONNX' own reference."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

from retinaface_tf.export.onnx_rewrite import rewrite  # noqa: E402


def small_model(rng):
    """Normalise, to channels first, pad and convolve with stride 2, repeat cells."""
    constants = {
        "scale": np.float32([1.0]),
        "means": np.float32([-3, -2, -1]),
        "pads": np.int64([0, 0, 1, 1, 0, 0, 0, 2]),
        "kernel": rng.normal(size=(4, 3, 3, 3)).astype(np.float32),
        "unread": np.float32([7]),
    }
    nodes = [
        helper.make_node("Mul", ["image", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "means"], ["centred"]),
        helper.make_node("Transpose", ["centred"], ["first"], perm=[0, 3, 1, 2]),
        helper.make_node("Pad", ["first", "pads"], ["padded"]),
        helper.make_node("Conv", ["padded", "kernel"], ["map"], strides=[2, 2], pads=[0, 1, 0, 0]),
        helper.make_node("Concat", ["map"] * 4, ["copies"], axis=1),
        helper.make_node("DepthToSpace", ["copies"], ["answer"], blocksize=2),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["b", "h", "w", 3])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, ["b", 4, "x", "y"])],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def test_the_small_graph_is_rewritten_and_equal(rng):
    model = small_model(rng)
    image = rng.uniform(0, 255, (2, 7, 9, 3)).astype(np.float32)
    (want,) = ReferenceEvaluator(model).run(None, {"image": image})
    rewrite(model)
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Transpose", "Add", "Conv", "Resize"]
    assert "unread" not in {tensor.name for tensor in model.graph.initializer}
    (got,) = ReferenceEvaluator(model).run(None, {"image": image})
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-4)


def test_what_does_not_fit_is_left_alone(rng):
    model = small_model(rng)
    nodes = {node.op_type: node for node in model.graph.node}
    nodes["Pad"].attribute.append(helper.make_attribute("mode", "reflect"))
    nodes["Concat"].input[3] = "other"
    model.graph.node.insert(5, helper.make_node("Neg", ["map"], ["other"]))
    # The normalised image is read twice, so it cannot be moved away.
    model.graph.output.append(helper.make_tensor_value_info("sum", TensorProto.FLOAT, []))
    model.graph.node.append(helper.make_node("ReduceSum", ["centred"], ["sum"]))
    kinds = [node.op_type for node in model.graph.node]
    rewrite(model)
    assert [node.op_type for node in model.graph.node] == kinds


def test_an_exported_network_takes_the_quick_forms(onnx):
    import onnx as onnx_package

    nodes = onnx_package.load(onnx).graph.node
    kinds = {node.op_type for node in nodes}
    assert "Resize" in kinds and not kinds & {"Pad", "DepthToSpace"}
    assert [node.op_type for node in nodes if "image" in node.input] == ["Transpose"]
