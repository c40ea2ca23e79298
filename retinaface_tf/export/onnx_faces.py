"""Suppression by the operator NonMaxSuppression at the end of an ONNX graph of decoded boxes."""

from typing import TYPE_CHECKING

import numpy as np

from retinaface_tf.export.onnx_rewrite import rename_tensor
from retinaface_tf.modelfile.metadata import ModelMetadata
from retinaface_tf.models import RetinaFaceNetwork

if TYPE_CHECKING:
    from retinaface_tf.models import RetinaFaceNetwork


# What the graph gives for every anchor: scores [B, N], boxes [B, N, 4], the anchors themselves
# [N, 4], and landmarks as deltas [B, N, 10].
DETECTIONS = ("anchor_scores", "anchor_boxes", "anchors", "landmark_deltas")


class _Nodes:
    """Adds nodes to a graph; each call returns the name of its output."""

    def __init__(self, graph):
        self.graph = graph
        self._count = 0

    def name(self) -> str:
        self._count += 1
        return f"faces_{self._count}"

    def constant(self, value, dtype) -> str:
        from onnx import numpy_helper

        name = self.name()
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def ints(self, *values: int) -> str:
        return self.constant(values, np.int64)

    def add(self, kind: str, *inputs: str, output: str | None = None, **attributes) -> str:
        from onnx import helper

        output = output or self.name()
        node = helper.make_node(kind, list(inputs), [output], name=self.name(), **attributes)
        self.graph.node.append(node)
        return output

    def length(self, values: str) -> str:
        """Scalar int64: entries along the first axis."""
        return self.add("Gather", self.add("Shape", values), self.constant(0, np.int64))

    def count_up_to(self, length: str) -> str:
        """int64 [length]: 0, 1, ..."""
        return self.add("Range", self.constant(0, np.int64), length, self.constant(1, np.int64))

    def column(self, table: str, number: int) -> str:
        """[M] of [M, C]."""
        return self.add("Gather", table, self.constant(number, np.int64), axis=1)

    def pairs(self, first: str, second: str) -> str:
        """[M, 2] of two [M]."""
        axis = self.ints(1)
        columns = [self.add("Unsqueeze", values, axis) for values in (first, second)]
        return self.add("Concat", *columns, axis=1)


def append_suppression(
    model, metadata: ModelMetadata, network: RetinaFaceNetwork, opset: int
) -> None:
    """Replaces the outputs of an onnx.ModelProto by faces; see `export.onnx.export_onnx`.

    Args:
        model: changed in place; outputs `DETECTIONS`, and the feature maps of a dense branch.
        metadata: threshold, IoU and number of faces, as many as are found where it is None.
        network: whose dense head is added, where it has one.
    """
    from onnx import TensorProto, helper

    graph, settings = model.graph, metadata.suppression
    n = _Nodes(graph)
    # ONNX keeps scores above its threshold, this package those at it too; 0 is no face.
    threshold = max(0.0, np.nextafter(np.float32(settings.threshold), np.float32(-1)))
    kept = n.add(
        "NonMaxSuppression",
        "anchor_boxes",
        n.add("Unsqueeze", "anchor_scores", n.ints(1)),
        n.ints(settings.max_faces or 2**31 - 1),
        n.constant([settings.iou], np.float32),
        n.constant([threshold], np.float32),
    )
    image_of, anchor_of = n.column(kept, 0), n.column(kept, 2)
    picked = n.pairs(image_of, anchor_of)
    scores, boxes = (n.add("GatherND", name, picked) for name in DETECTIONS[:2])

    # Row of each face in its image's table: faces come image by image, best first.
    batch = n.length("image")
    images = n.add("Unsqueeze", n.count_up_to(batch), n.ints(1))
    same = n.add("Equal", n.add("Unsqueeze", image_of, n.ints(0)), images)
    counts = n.add("ReduceSum", n.add("Cast", same, to=TensorProto.INT64), n.ints(1), keepdims=0)
    if settings.max_faces is None:
        rows_of_table = n.add("Unsqueeze", n.add("ReduceMax", counts, keepdims=0), n.ints(0))
    else:
        rows_of_table = n.ints(settings.max_faces)
    starts = n.add("CumSum", counts, n.constant(0, np.int64), exclusive=1)
    position = n.add("Sub", n.count_up_to(n.length(image_of)), n.add("Gather", starts, image_of))
    rows = n.pairs(image_of, position)

    landmarks, *vertices = append_tail(
        model, network, image=image_of, numbers=anchor_of, boxes=boxes, opset=opset
    )
    found = {"boxes": (boxes, 4), "scores": (scores,), "landmarks": (landmarks, 5, 2)}
    if vertices:
        found["vertices"] = (*vertices, network.config.dense.vertices, 3)
    del graph.output[:]
    for name in metadata.output_names:
        if name == "num_faces":
            n.add("Cast", counts, to=TensorProto.INT32, output=name)
            graph.output.append(helper.make_tensor_value_info(name, TensorProto.INT32, ("batch",)))
            continue
        values, *tail = found[name]
        shape = n.add(
            "Concat",
            n.add("Unsqueeze", batch, n.ints(0)),
            rows_of_table,
            *([n.ints(*tail)] if tail else []),
            axis=0,
        )
        blank = n.add("Expand", n.constant(np.zeros((1,) * (2 + len(tail))), np.float32), shape)
        n.add("ScatterND", blank, rows, values, output=name)
        shape = ("batch", settings.max_faces or "faces", *tail)
        graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))


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
