"""Decoding and NonMaxSuppression appended to an ONNX graph of raw heads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.modelfile.metadata import Suppression

if TYPE_CHECKING:
    from retinaface_tf.models import RetinaFaceNetwork


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

    def add(self, kind: str, *inputs: str, output: str | None = None, **attributes) -> str:
        from onnx import helper

        output = output or self.name()
        node = helper.make_node(kind, list(inputs), [output], name=self.name(), **attributes)
        self.graph.node.append(node)
        return output


def append_suppression(
    model,
    config: RetinaFaceConfig,
    settings: Suppression,
    network: RetinaFaceNetwork | None = None,
    opset: int = 17,
) -> None:
    """Replaces the outputs of an onnx.ModelProto by faces; see `export.onnx.export_onnx`.

    Args:
        model: changed in place; outputs "scores", "box_deltas", "landmark_deltas", and the feature
            maps of a dense branch.
        config: anchors and variances.
        settings: threshold, IoU and number of rows.
        network: whose dense head is added, of a network that has one.
        opset: of the model, for that head.
    """
    from onnx import TensorProto, helper

    graph = model.graph
    n = _Nodes(graph)

    def ints(*values: int) -> str:
        return n.constant(values, np.int64)

    def floats(value) -> str:
        return n.constant(value, np.float32)

    shape = n.add("Shape", "image")
    batch, height, width = (
        n.add("Slice", shape, ints(axis), ints(axis + 1), ints(0)) for axis in range(3)
    )
    anchors = _anchors(n, config, height, width, ints, floats)
    centers = n.add("Slice", anchors, ints(0), ints(2), ints(1))
    sizes = n.add("Slice", anchors, ints(2), ints(4), ints(1))
    boxes = _boxes(n, config, centers, sizes, (height, width), ints, floats)

    # Nothing is left of a box that lay outside the image.
    extent = n.add(
        "Sub",
        n.add("Slice", boxes, ints(2), ints(4), ints(2)),
        n.add("Slice", boxes, ints(0), ints(2), ints(2)),
    )
    inside = n.add("Greater", n.add("ReduceMin", extent, axes=[2], keepdims=0), floats(0.0))
    scores3 = n.add("Unsqueeze", n.add("Where", inside, "scores", floats(-1.0)), ints(1))
    kept = n.add(
        "NonMaxSuppression",
        boxes,
        scores3,
        ints(settings.max_faces),
        floats([settings.iou]),
        # ONNX keeps scores above its threshold, this package those at it too.
        floats([np.nextafter(np.float32(settings.threshold), np.float32(-1))]),
    )
    image_of = n.add("Squeeze", n.add("Slice", kept, ints(0), ints(1), ints(1)), ints(1))
    anchor_of = n.add("Squeeze", n.add("Slice", kept, ints(2), ints(3), ints(1)), ints(1))

    # Row of each face in its image's table: faces come image by image, best first.
    images = n.add(
        "Range", n.constant(0, np.int64), n.add("Squeeze", batch, ints(0)), n.constant(1, np.int64)
    )
    same = n.add(
        "Cast",
        n.add("Equal", n.add("Unsqueeze", image_of, ints(0)), n.add("Unsqueeze", images, ints(1))),
        to=TensorProto.INT64,
    )
    counts = n.add("ReduceSum", same, ints(1), keepdims=0)
    starts = n.add("CumSum", counts, n.constant(0, np.int64), exclusive=1)
    position = n.add(
        "Sub",
        n.add(
            "Range",
            n.constant(0, np.int64),
            n.add("Squeeze", n.add("Shape", image_of), ints(0)),
            n.constant(1, np.int64),
        ),
        n.add("Gather", starts, image_of),
    )
    rows = n.add(
        "Concat",
        n.add("Unsqueeze", image_of, ints(1)),
        n.add("Unsqueeze", position, ints(1)),
        axis=1,
    )
    picked = n.add(
        "Concat",
        n.add("Unsqueeze", image_of, ints(1)),
        n.add("Unsqueeze", anchor_of, ints(1)),
        axis=1,
    )

    def table(values: str, tail: tuple[int, ...], output: str) -> None:
        blank = n.add(
            "Expand",
            floats(np.zeros((1,) * (2 + len(tail)))),
            n.add("Concat", batch, ints(settings.max_faces, *tail), axis=0),
        )
        n.add("ScatterND", blank, rows, values, output=output)

    landmark_deltas = n.add("Reshape", n.add("GatherND", "landmark_deltas", picked), ints(-1, 5, 2))
    anchor_centers = n.add("Unsqueeze", n.add("Gather", centers, anchor_of), ints(1))
    anchor_sizes = n.add("Unsqueeze", n.add("Gather", sizes, anchor_of), ints(1))
    offsets = n.add(
        "Mul", n.add("Mul", landmark_deltas, floats([config.center_variance])), anchor_sizes
    )
    face_boxes, points = n.add("GatherND", boxes, picked), n.add("Add", anchor_centers, offsets)
    table(face_boxes, (4,), "boxes")
    table(n.add("GatherND", "scores", picked), (), "face_scores")
    table(points, (5, 2), "landmarks")
    k = settings.max_faces
    outputs = [("boxes", (k, 4)), ("scores", (k,)), ("landmarks", (k, 5, 2))]
    if network is not None and network.dense_head is not None:
        from retinaface_tf.export.onnx_vertices import append_dense_head

        vertices = append_dense_head(
            model,
            network,
            image=image_of,
            anchors=anchor_of,
            boxes=face_boxes,
            landmarks=points,
            opset=opset,
        )
        table(vertices, (config.dense.vertices, 3), "vertices")
        outputs.append(("vertices", (k, config.dense.vertices, 3)))
    n.add("Cast", counts, to=TensorProto.INT32, output="num_faces")

    # The heads' scores give up their name to the faces'.
    for node in graph.node:
        node.input[:] = ["anchor_scores" if v == "scores" else v for v in node.input]
        node.output[:] = [
            {"scores": "anchor_scores", "face_scores": "scores"}.get(v, v) for v in node.output
        ]
    del graph.output[:]
    for name, tail in outputs:
        graph.output.append(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ("batch", *tail))
        )
    graph.output.append(helper.make_tensor_value_info("num_faces", TensorProto.INT32, ("batch",)))


def _anchors(n: _Nodes, config: RetinaFaceConfig, height: str, width: str, ints, floats) -> str:
    """[N, 4] cx, cy, w, h: `geometry.anchors.generate_anchors` as a graph."""
    parts = []
    zero, one = n.constant(0, np.int64), n.constant(1, np.int64)
    for level in config.levels:
        stride, per_cell = level.stride, len(level.anchor_sizes)

        def centers(side: str, stride: int = stride) -> str:
            cells = n.add("Div", n.add("Add", side, ints(stride - 1)), ints(stride))
            index = n.add("Range", zero, n.add("Squeeze", cells, ints(0)), one)
            index = n.add("Cast", index, to=1)
            return n.add("Mul", n.add("Add", index, floats([0.5])), floats([stride]))

        y, x = centers(height), centers(width)
        # [rows, columns, sizes, 1] each, by broadcasting.
        ones = floats(np.ones((1, 1, per_cell, 1)))
        x = n.add("Mul", n.add("Reshape", x, ints(1, -1, 1, 1)), ones)
        y = n.add("Mul", n.add("Reshape", y, ints(-1, 1, 1, 1)), ones)
        grid = n.add("Add", n.add("Mul", x, floats([0.0])), n.add("Mul", y, floats([0.0])))
        sides = n.add("Add", grid, floats(np.reshape(level.anchor_sizes, (1, 1, per_cell, 1))))
        table = n.add("Concat", n.add("Add", x, grid), n.add("Add", y, grid), sides, sides, axis=3)
        parts.append(n.add("Reshape", table, ints(-1, 4)))
    return n.add("Concat", *parts, axis=0) if len(parts) > 1 else parts[0]


def _boxes(n: _Nodes, config: RetinaFaceConfig, centers: str, sizes: str, sides, ints, floats):
    """[B, N, 4] corners inside the image: `geometry.box_coding.decode_boxes`, then clipped."""
    shift = n.add("Slice", "box_deltas", ints(0), ints(2), ints(2))
    growth = n.add("Slice", "box_deltas", ints(2), ints(4), ints(2))
    center = n.add(
        "Add", centers, n.add("Mul", n.add("Mul", shift, floats([config.center_variance])), sizes)
    )
    growth = n.add("Exp", n.add("Mul", growth, floats([config.size_variance])))
    half = n.add("Mul", n.add("Mul", sizes, growth), floats([0.5]))
    corners = n.add("Concat", n.add("Sub", center, half), n.add("Add", center, half), axis=2)
    height, width = (n.add("Cast", side, to=1) for side in sides)
    limits = n.add("Concat", width, height, width, height, axis=0)
    return n.add("Min", n.add("Max", corners, floats([0.0])), limits)
