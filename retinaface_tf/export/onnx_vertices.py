"""The dense head at the end of an ONNX graph that ends in faces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retinaface_tf.export.onnx_rewrite import rename_tensor

if TYPE_CHECKING:
    from retinaface_tf.models import RetinaFaceNetwork

_PREFIX = "dense/"
_OUTPUT = "face_vertices"


def append_dense_head(
    model,
    network: RetinaFaceNetwork,
    *,
    image: str,
    anchors: str,
    boxes: str,
    landmarks: str,
    opset: int,
) -> str:
    """Adds the vertices of suppressed faces to an onnx.ModelProto.

    The head's own graph comes from tf2onnx; its inputs are tied to tensors of the model.

    Args:
        model: changed in place; has the feature maps and "image".
        network: with a dense head.
        image: name of the int64 [M] tensor with each face's image.
        anchors: of the int64 [M] anchors' numbers.
        boxes, landmarks: of the decoded [M, 4] and [M, 5, 2], in pixels.
        opset: of the model.

    Returns:
        Name of the float32 [M, V, 3] tensor.
    """
    tail = _convert(network, opset)
    names = {"image_of_face": image, "anchors": anchors, "boxes": boxes, "landmarks": landmarks}
    names |= {"pixels": "image", _OUTPUT: _OUTPUT}
    names |= {name: name for name in network.config.dense_outputs}

    def renamed(name: str) -> str:
        # An optional input that is left out has the empty name.
        return names.get(name.split(":")[0], _PREFIX + name) if name else ""

    for node in tail.graph.node:
        node.name = _PREFIX + node.name
        node.input[:] = [renamed(name) for name in node.input]
        node.output[:] = [renamed(name) for name in node.output]
        model.graph.node.append(node)
    for tensor in tail.graph.initializer:
        tensor.name = renamed(tensor.name)
        model.graph.initializer.append(tensor)
    return _OUTPUT


def _convert(network, opset: int):
    import tensorflow as tf
    import tf2onnx

    from retinaface_tf.geometry.anchors import generate_anchors_in_graph
    from retinaface_tf.layers.dense_frames import vertices_of_faces
    from retinaface_tf.models.read_heads import dense_weights

    config, weights = network.config, dense_weights(network)

    def forward(pixels, image, numbers, boxes, landmarks, *maps):
        shape = tf.unstack(tf.shape(pixels)[1:3])
        vertices = vertices_of_faces(
            maps,
            tf.cast(image, tf.int32),
            tf.cast(numbers, tf.int32),
            generate_anchors_in_graph(config.levels, *shape),
            boxes,
            landmarks,
            shape,
            weights,
            config,
        )
        return tf.identity(vertices, name=_OUTPUT)

    signature = [
        tf.TensorSpec([None, None, None, 3], tf.float32, "pixels"),
        tf.TensorSpec([None], tf.int64, "image_of_face"),
        tf.TensorSpec([None], tf.int64, "anchors"),
        tf.TensorSpec([None, 4], tf.float32, "boxes"),
        tf.TensorSpec([None, 5, 2], tf.float32, "landmarks"),
    ]
    shape = [None, None, None, config.channels]
    signature += [tf.TensorSpec(shape, tf.float32, name) for name in config.dense_outputs]
    # By name, not by place: the converter drops inputs that nothing reads.
    model, _ = tf2onnx.convert.from_function(
        tf.function(forward, input_signature=signature), signature, opset=opset
    )
    (output,) = model.graph.output
    rename_tensor(model.graph, output.name, _OUTPUT)
    return model
