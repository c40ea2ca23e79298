"""ONNX files through tf2onnx: any batch and size, raw heads or faces, self-describing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from retinaface_tf.config import DetectionSettings
from retinaface_tf.errors import ConfigError
from retinaface_tf.export.onnx_rewrite import rename_tensor, rewrite
from retinaface_tf.modelfile.dense_block import ENTRY as DENSE_ENTRY
from retinaface_tf.modelfile.dense_block import pack_dense_weights
from retinaface_tf.modelfile.metadata import ENTRY, ModelMetadata, Suppression, append_checksum
from retinaface_tf.util.extras import require
from retinaface_tf.util.files import write_whole

if TYPE_CHECKING:
    from retinaface_tf.models import RetinaFaceNetwork

OPSET = 17
# tf2onnx writes up to 18, without DeformConv; 19 brought that operator.
OPSETS = (*range(13, 18), *range(19, 23))
_LAST_WRITTEN = 17


def export_onnx(
    network: RetinaFaceNetwork,
    path: str | Path,
    *,
    opset: int = OPSET,
    suppression: Suppression | None = None,
    preset: str | None = None,
    threshold: float = DetectionSettings.threshold,
    iou: float = DetectionSettings.iou,
) -> Path:
    """Writes a network as an .onnx file.

    One input `image` float32 [B, H, W, 3], RGB in 0..255, any batch and any size. Outputs "scores"
    [B, N], "box_deltas" [B, N, 4] and "landmark_deltas" [B, N, 10]; with `suppression` "boxes"
    [B, K, 4] in input pixels, "scores" [B, K], "landmarks" [B, K, 5, 2] and "num_faces" [B],
    made with the operator NonMaxSuppression, and of a network with a dense branch "vertices"
    [B, K, V, 3]. ONNX counts boxes whose overlap is *above* the
    threshold as double, as this package does.

    Args:
        opset: of ONNX, 13 to 17 or 19 to 22. From 19 on deformable convolutions are the operator
            DeformConv, below they are gathers and products of matrices, which older runtimes know.
        suppression: end the graph in faces.
        preset, threshold, iou: noted in the file.

    Raises:
        ConfigError: an option cannot be.
        MissingPackage: tf2onnx is not installed.
        WeightsError: the file cannot be written.
    """
    if opset not in OPSETS:
        raise ConfigError(f"Opset {opset} must be one of {', '.join(map(str, OPSETS))}.")
    require("export", "onnx", "tf2onnx", for_="Writing ONNX")
    metadata = ModelMetadata(
        config=network.config,
        suppression=suppression,
        preset=preset,
        threshold=threshold,
        iou=iou,
    )
    native = opset > _LAST_WRITTEN
    written = _LAST_WRITTEN if native else opset
    model = _convert(network, metadata, written, native)
    if suppression:
        from retinaface_tf.export.onnx_faces import append_suppression

        append_suppression(model, metadata, network, written)
    if native:
        from retinaface_tf.export.onnx_deformable import raise_opset

        model = raise_opset(model, opset)
    entry = model.metadata_props.add()
    entry.key, entry.value = ENTRY, metadata.to_json()
    if network.dense_head is not None and not suppression:
        from retinaface_tf.models.read_heads import dense_weights

        entry = model.metadata_props.add()
        entry.key, entry.value = DENSE_ENTRY, pack_dense_weights(dense_weights(network))
    return write_whole(path, append_checksum(model.SerializeToString()))


def _convert(network: RetinaFaceNetwork, metadata: ModelMetadata, opset: int, native: bool):
    """Raw heads, or with suppression decoded boxes, as an onnx.ModelProto.

    With `native`, deformable convolutions are operators for `onnx_deformable.raise_opset`.
    """
    import tensorflow as tf
    import tf2onnx

    from retinaface_tf.export import onnx_deformable
    from retinaface_tf.export.archive import saved_graph
    from retinaface_tf.export.onnx_faces import DETECTIONS
    from retinaface_tf.geometry.anchors import generate_anchors_in_graph
    from retinaface_tf.inference.postprocess_in_graph import decode_in_graph
    from retinaface_tf.models.read_heads import raw_heads

    config = network.config
    heads, maps = ("scores", "box_deltas", "landmark_deltas"), config.dense_outputs

    def outputs(image):
        found = loaded.serve(image)
        values = [found[name] for name in heads]
        if metadata.suppression:
            batch, height, width = tf.unstack(tf.shape(image)[:3])
            anchors = generate_anchors_in_graph(config.levels, height, width)
            sizes = tf.tile(tf.cast([[height, width]], tf.float32), [batch, 1])
            scores, box_deltas, landmark_deltas = values
            scores, boxes = decode_in_graph(scores, box_deltas, anchors, sizes, config)
            values = (scores, boxes, anchors, landmark_deltas)
        return (*values, *(found[name] for name in maps))

    signature = tf.TensorSpec([None, None, None, 3], tf.float32, "image")
    mark = onnx_deformable.mark if native else None
    with saved_graph(network, raw_heads(network), signature, mark) as folder:
        loaded = tf.saved_model.load(folder)
        model, _ = tf2onnx.convert.from_function(
            tf.function(outputs),
            [signature],
            opset=opset,
            custom_op_handlers={onnx_deformable.MARK: (onnx_deformable.convert_mark, [])},
            extra_opset=[onnx_deformable.opset()],
        )
    rewrite(model)
    _rename(model, [*(DETECTIONS if metadata.suppression else heads), *maps])
    return model


def _rename(model, names: list[str]) -> None:
    """Gives the outputs the names of the contract, and their anchors one symbolic length."""
    for output, name in zip(model.graph.output, names):
        old, output.name = output.name, name
        rename_tensor(model.graph, old, name)
        shape = output.type.tensor_type.shape.dim
        shape[0].dim_param, shape[1].dim_param = "batch", "anchors"
        if name.startswith("features_"):
            # The converter knows no more of a map's sides.
            shape[1].dim_param, shape[2].dim_param = f"{name}_rows", f"{name}_columns"
    shape = model.graph.input[0].type.tensor_type.shape.dim
    for dimension, name in zip(shape, ("batch", "height", "width")):
        dimension.dim_param = name
