"""A face embedder whose answers are known."""

import pytest


def mean_colour_onnx(path, layout):
    """A network whose embedding is the mean colour of the crop."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper = onnx.helper
    shape = ["n", 8, 8, 3] if layout == "nhwc" else ["n", 3, 8, 8]
    axes = [1, 2] if layout == "nhwc" else [2, 3]
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["x"], ["y"], axes=axes, keepdims=0)],
        "mean",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)
