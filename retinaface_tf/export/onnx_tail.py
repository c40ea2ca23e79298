"""What an ONNX graph computes of the faces that suppression kept: landmarks and the dense head."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retinaface_tf.export.onnx_rewrite import rename_tensor

if TYPE_CHECKING:
    from retinaface_tf.models import RetinaFaceNetwork

_PREFIX = "kept/"


def append_tail(
    model, network: RetinaFaceNetwork, *, image: str, numbers: str, boxes: str, opset: int
) -> list[str]:
    """Adds landmarks and vertices of suppressed faces to an onnx.ModelProto.

    The graph of these comes from tf2onnx; its inputs are tied to tensors of the model.

    Args:
        model: changed in place; has "image", "anchors" [N, 4], "landmark_deltas" and feature maps.
        network: whose dense head is added, where it has one.
        image: name of the int64 [M] tensor with each face's image.
        numbers: of the int64 [M] anchors' numbers.
        boxes: of the decoded [M, 4], in pixels.

    Returns:
        Names of the float32 [M, 5, 2] landmarks and, of a dense head, [M, V, 3] vertices.
    """
    tail = _convert(network, opset)
    names = {"image_of_face": image, "numbers": numbers, "boxes": boxes, "pixels": "image"}
    names |= {name: name for name in ("anchors", "landmark_deltas", *network.config.dense_outputs)}

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
    return [renamed(output.name) for output in tail.graph.output]


def _convert(network: RetinaFaceNetwork, opset: int):
    import tensorflow as tf
    import tf2onnx

    from retinaface_tf.geometry.box_coding import decode_points
    from retinaface_tf.layers.dense_frames import vertices_of_faces
    from retinaface_tf.models.read_heads import dense_weights

    config, weights = network.config, dense_weights(network)

    def forward(pixels, anchors, image, numbers, boxes, deltas, *maps):
        own = tf.gather(anchors, numbers)
        deltas = tf.gather_nd(deltas, tf.stack([image, numbers], axis=1))
        landmarks = decode_points(tf.reshape(deltas, [-1, 5, 2]), own, config.center_variance)
        if not maps:
            return (landmarks,)
        image, numbers = tf.cast(image, tf.int32), tf.cast(numbers, tf.int32)
        shape = tf.unstack(tf.shape(pixels)[1:3])
        vertices = vertices_of_faces(
            maps, image, numbers, anchors, boxes, landmarks, shape, weights, config
        )
        return landmarks, vertices

    signature = [
        tf.TensorSpec([None, None, None, 3], tf.float32, "pixels"),
        tf.TensorSpec([None, 4], tf.float32, "anchors"),
        tf.TensorSpec([None], tf.int64, "image_of_face"),
        tf.TensorSpec([None], tf.int64, "numbers"),
        tf.TensorSpec([None, 4], tf.float32, "boxes"),
        tf.TensorSpec([None, None, 10], tf.float32, "landmark_deltas"),
    ]
    shape = [None, None, None, config.channels]
    signature += [tf.TensorSpec(shape, tf.float32, name) for name in config.dense_outputs]
    # By name, not by place: the converter drops inputs that nothing reads.
    model, _ = tf2onnx.convert.from_function(
        tf.function(forward, input_signature=signature), signature, opset=opset
    )
    for number, output in enumerate(model.graph.output):
        old, output.name = output.name, f"output_{number}"
        rename_tensor(model.graph, old, output.name)
    return model
