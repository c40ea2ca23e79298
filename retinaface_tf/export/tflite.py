"""TFLite/LiteRT files: fixed or resizable input, builtin operators only, self-describing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from retinaface_tf.config import DetectionSettings
from retinaface_tf.errors import ConfigError
from retinaface_tf.modelfile.dense_block import ENTRY as DENSE_ENTRY
from retinaface_tf.modelfile.dense_block import pack_dense_weights
from retinaface_tf.modelfile.metadata import ENTRY, ModelMetadata, Suppression, append_checksum
from retinaface_tf.util.files import write_whole

if TYPE_CHECKING:
    from retinaface_tf.models import RetinaFaceNetwork

Precision = Literal["float32", "float16", "dynamic", "int8"]
PRECISIONS = get_args(Precision)

# What int8 leaves in float: the largest maps, where rounding enters everything behind them. It is
# also quicker so, since XNNPACK takes no map of bytes that a float image was turned into.
_FLOAT_LAYERS = re.compile(r"/(normalize|stem|block[12])_")


def export_tflite(
    network: RetinaFaceNetwork,
    path: str | Path,
    *,
    size: tuple[int, int] = (480, 640),
    precision: Precision = "float32",
    calibration: Iterable[np.ndarray] | None = None,
    input_dtype: Literal["float32", "uint8"] | None = None,
    suppression: Suppression | None = None,
    preset: str | None = None,
    threshold: float = DetectionSettings.threshold,
    iou: float = DetectionSettings.iou,
) -> Path:
    """Writes a network as a .tflite file.

    The file has one input `image` [1, H, W, 3], RGB in 0..255, and separate outputs "scores"
    [1, N], "box_deltas" [1, N, 4] and "landmark_deltas" [1, N, 10]. Where both sides are multiples
    of the coarsest stride no number in the graph depends on them: an interpreter may resize the
    input to any other such size before it allocates.

    Args:
        size: (height, width) of the input in pixels.
        precision: "float32"; "float16" weights (computed in float32 on a CPU); "dynamic", int8
            weights and float activations; "int8", int8 weights (one scale a channel) and
            activations, with the stem and the first two blocks of a MobileNet, and scores and
            deltas at the end, in float.
        calibration: for int8: images like those it will see, uint8 RGB [H, W, 3] of that size.
        input_dtype: "float32", or "uint8" (the default of int8).
        suppression: end the graph in faces instead: decoded, suppressed, the best `max_faces`;
            `num_faces` equal to that says that there may have been more.
        preset, threshold, iou: noted in the file.

    Raises:
        ConfigError: an option cannot be.
        WeightsError: the file cannot be written.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"Precision {precision!r} must be one of {', '.join(PRECISIONS)}.")
    if min(size) < 1:
        raise ConfigError(f"Size {size[1]}x{size[0]} must be positive.")
    if precision == "int8" and calibration is None:
        raise ConfigError(
            "int8 needs photos to measure the network's ranges on: name a folder of them with "
            "--calibration."
        )
    if precision == "int8" and suppression:
        raise ConfigError("An int8 file ends in raw heads: suppression in the graph needs floats.")
    if suppression and suppression.max_faces is None:
        raise ConfigError(
            "A .tflite that ends in faces has a fixed number of them: give max_faces."
        )
    multiple = network.config.max_stride
    metadata = ModelMetadata(
        config=network.config,
        precision=precision,
        input_size=tuple(size),
        input_dtype=input_dtype or ("uint8" if precision == "int8" else "float32"),
        resizable=not suppression and not (size[0] % multiple or size[1] % multiple),
        suppression=suppression,
        preset=preset,
        threshold=threshold,
        iou=iou,
    )
    if precision == "int8":
        from retinaface_tf.export.equalize import equalize

        calibration = list(calibration)
        network = equalize(network, calibration)
    content = _convert(network, metadata, calibration)
    return write_whole(path, _describe(content, metadata, network))


def _convert(network, metadata: ModelMetadata, calibration) -> bytes:
    """The converter's bytes."""
    import tensorflow as tf

    from retinaface_tf.export.archive import saved_graph
    from retinaface_tf.models.read_heads import raw_heads

    forward = raw_heads(network)
    if metadata.suppression:
        forward = _with_faces(forward, metadata, network)
    sides = [None, None] if _has_open_sides(metadata) else metadata.input_size
    quantized = metadata.precision == "int8"
    signature = tf.TensorSpec([1, *sides, 3], tf.as_dtype(metadata.input_dtype), "image")
    with saved_graph(network, forward, signature) as folder:
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, ["serve"])
        if metadata.precision != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if metadata.precision == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if quantized:
            converter.representative_dataset = lambda: (
                [image[None].astype(metadata.input_dtype)] for image in calibration
            )
            # Ranges only: quantising afterwards can leave layers out, `convert` cannot.
            converter._experimental_calibrate_only = True
        content = converter.convert()
    return _quantize(content) if quantized else content


def _has_open_sides(metadata: ModelMetadata) -> bool:
    """Whether the graph works its sides out when it runs.

    The numbers of a deformable convolution's grid follow the sides; elsewhere nothing but the
    reshapes of the outputs does, and `_open_reshapes` sees to those.
    """
    return metadata.resizable and metadata.config.deformable


def _quantize(calibrated: bytes) -> bytes:
    """int8 of a file with measured ranges, but for `_FLOAT_LAYERS`."""
    from tensorflow.lite.python.convert import mlir_quantize

    from retinaface_tf.export.flatbuffer import text, unpack

    graph = unpack(calibrated).subgraphs[0]
    names = {text(graph.tensors[i].name) for op in graph.operators for i in op.outputs}
    kept = {name for name in names if _FLOAT_LAYERS.search(name)}
    return bytes(mlir_quantize(calibrated, denylisted_nodes=kept or None))


def _with_faces(heads, metadata: ModelMetadata, network: RetinaFaceNetwork):
    """Raw heads followed by decoding and suppression."""
    from keras import ops

    from retinaface_tf.geometry.anchors import generate_anchors
    from retinaface_tf.inference.postprocess_in_graph import read_faces_in_graph
    from retinaface_tf.layers.dense_frames import vertices_of_faces
    from retinaface_tf.models.read_heads import dense_weights

    config, weights = metadata.config, dense_weights(network)
    anchors = generate_anchors(config.levels, *metadata.input_size)
    sizes = np.asarray([metadata.input_size], np.float32)

    def forward(image):
        outputs = heads(image)
        faces = read_faces_in_graph(
            outputs, anchors, ops.convert_to_tensor(sizes), config, metadata.suppression
        )
        boxes, scores, landmarks, count, numbers = faces
        found = [boxes, scores, landmarks, count]
        if weights:
            numbers = numbers[0]
            vertices = vertices_of_faces(
                [outputs[name] for name in config.dense_outputs],
                ops.zeros_like(numbers),
                numbers,
                anchors,
                boxes[0],
                landmarks[0],
                metadata.input_size,
                weights,
                config,
            )
            real = (scores > 0)[:, :, None, None]
            found.append(ops.where(real, vertices[None], ops.zeros_like(vertices[None])))
        return dict(zip(metadata.output_names, found, strict=True))

    return forward


def _describe(content: bytes, metadata: ModelMetadata, network: RetinaFaceNetwork) -> bytes:
    """The converter's file with names people can read, no fixed sizes in reshapes, and its note."""
    from retinaface_tf.export.flatbuffer import pack, text, unpack

    model = unpack(content)
    graph = model.subgraphs[0]
    signature = model.signatureDefs[0]
    order = metadata.output_names
    outputs = {text(entry.name): entry.tensorIndex for entry in signature.outputs}
    graph.outputs = [outputs[name] for name in order]
    signature.outputs.sort(key=lambda entry: order.index(text(entry.name)))
    for name, index in outputs.items():
        graph.tensors[index].name = name
    graph.tensors[graph.inputs[0]].name = signature.inputs[0].name = "image"
    if metadata.resizable and not _has_open_sides(metadata):
        _open_reshapes(model)
    if metadata.precision == "dynamic":
        _float_depthwise_kernels(model)
    _subtract_mean_by_convolution(model)
    entries = {ENTRY: metadata.to_json().encode()}
    if network.dense_head is not None and not metadata.suppression:
        from retinaface_tf.models.read_heads import dense_weights

        entries[DENSE_ENTRY] = pack_dense_weights(dense_weights(network)).encode()
    return append_checksum(pack(model, entries))


def _open_reshapes(model) -> None:
    """Lets every reshape infer the number of anchors, which is its second axis."""
    from retinaface_tf.export.flatbuffer import operator_name

    graph = model.subgraphs[0]
    for operator in graph.operators:
        if operator_name(model, operator) != "RESHAPE":
            continue
        buffer = model.buffers[graph.tensors[operator.inputs[1]].buffer]
        shape = np.frombuffer(bytes(buffer.data), "<i4").copy()
        shape[1] = -1
        buffer.data = np.frombuffer(shape.tobytes(), np.uint8)
        if operator.builtinOptions is not None:
            operator.builtinOptions.newShape = None


def _subtract_mean_by_convolution(model) -> None:
    """Makes the sum of the pixels and minus their mean a 1x1 convolution whose bias that is.

    XNNPACK adds a vector of three numbers three at a time; the convolution, with ones and zeros, gives
    the same numbers in a third of the time.
    """
    from ai_edge_litert import schema_py_generated as schema

    from retinaface_tf.export.flatbuffer import operator_name

    graph, codes = model.subgraphs[0], [code.builtinCode for code in model.operatorCodes]
    for operator in graph.operators:
        name, added = operator_name(model, operator), graph.tensors[operator.inputs[-1]]
        if name == "CONV_2D":
            return
        if (
            name == "ADD"
            and list(added.shape) == [3]
            and model.buffers[added.buffer].data is not None
        ):
            break
    else:
        return
    kernel, buffer = schema.TensorT(), schema.BufferT()
    buffer.data = np.frombuffer(np.eye(3, dtype="<f4").tobytes(), np.uint8)
    kernel.name, kernel.type = "normalize_kernel", schema.TensorType.FLOAT32
    kernel.shape, kernel.buffer = [3, 1, 1, 3], len(model.buffers)
    model.buffers.append(buffer)
    graph.tensors.append(kernel)
    image, mean = operator.inputs
    operator.inputs = [image, len(graph.tensors) - 1, mean]
    operator.opcodeIndex = codes.index(schema.BuiltinOperator.CONV_2D)
    operator.builtinOptionsType = schema.BuiltinOptions.Conv2DOptions
    operator.builtinOptions = options = schema.Conv2DOptionsT()
    options.padding, options.strideH, options.strideW = schema.Padding.VALID, 1, 1


def _float_depthwise_kernels(model) -> None:
    """Gives depthwise convolutions of a dynamic-range file their float kernels back.

    They are a few kilobytes, and XNNPACK has no such operator with int8 weights and float maps: it
    would leave them to slower code and cut the graph there.
    """
    from ai_edge_litert.schema_py_generated import TensorType

    from retinaface_tf.export.flatbuffer import operator_name

    graph = model.subgraphs[0]
    for operator in graph.operators:
        if operator_name(model, operator) != "DEPTHWISE_CONV_2D":
            continue
        kernel = graph.tensors[operator.inputs[1]]
        if kernel.type != TensorType.INT8:
            continue
        buffer = model.buffers[kernel.buffer]
        values = np.frombuffer(bytes(buffer.data), np.int8).reshape(kernel.shape)
        # One scale a channel, the last axis; int8 weights have no offset.
        values = values.astype("<f4") * np.asarray(kernel.quantization.scale, "<f4")
        buffer.data = np.frombuffer(values.astype("<f4").tobytes(), np.uint8)
        kernel.type, kernel.quantization = TensorType.FLOAT32, None
