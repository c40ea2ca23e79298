"""Deformable convolutions as ONNX' own operator: equal to the gather form, in onnxruntime."""

import keras
import numpy as np
import pytest

from retinaface_tf.errors import ConfigError
from retinaface_tf.layers.deformable_conv import DeformableConv2D, for_exporters

onnxruntime = pytest.importorskip("onnxruntime")
tf2onnx = pytest.importorskip("tf2onnx")


def network(**options):
    """Masked, grouped and strided, and v1 with dilation; offsets of about a cell."""
    image = keras.Input((None, None, 8), name="image")
    x = DeformableConv2D(8, 3, deformable_groups=2, name="first")(image)
    x = DeformableConv2D(6, 3, 2, groups=2, name="second", **options)(x)
    x = DeformableConv2D(4, 3, dilation_rate=2, modulated=False, name="third")(x)
    model = keras.Model(image, x)
    rng = np.random.default_rng(3)
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape) * (0.06 if "offset" in weight.name else 0.3))
    return model


def converted(model, opset):
    import tensorflow as tf

    from retinaface_tf.export import onnx_deformable

    signature = [tf.TensorSpec((None, None, None, 8), tf.float32, name="image")]
    with for_exporters(model, onnx_deformable.mark):
        graph, _ = tf2onnx.convert.from_function(
            tf.function(model.call, input_signature=signature),
            signature,
            opset=17,
            custom_op_handlers={onnx_deformable.MARK: (onnx_deformable.convert_mark, [])},
            extra_opset=[onnx_deformable.opset()],
        )
    return onnx_deformable.raise_opset(graph, opset)


@pytest.mark.parametrize("opset", [19, 22])
def test_the_operator_equals_the_layer(opset):
    model = network(padding=1)
    graph = converted(model, opset)
    kinds = [node.op_type for node in graph.graph.node]
    assert kinds.count("DeformConv") == 3 and "PyFunc" not in kinds
    assert {e.domain: e.version for e in graph.opset_import}[""] == opset
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    for shape in ((1, 20, 24, 8), (2, 11, 9, 8)):
        image = np.random.default_rng(4).normal(size=shape).astype(np.float32)
        (found,) = session.run(None, {"image": image})
        expected = keras.ops.convert_to_numpy(model(image))
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_padding_that_follows_the_image_is_refused():
    with pytest.raises(ConfigError, match="no form as DeformConv"):
        converted(network(padding="same"), 19)


def test_an_opset_that_cannot_be_written_is_refused(tmp_path):
    from retinaface_tf import build_retinaface
    from retinaface_tf.export.onnx import export_onnx

    with pytest.raises(ConfigError, match="Opset 18 must be one of"):
        export_onnx(build_retinaface("mobilenet0.25"), tmp_path / "x.onnx", opset=18)
