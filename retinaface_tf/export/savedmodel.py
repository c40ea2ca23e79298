"""A SavedModel that TF-Serving runs as it is: image files in, faces out, all in the graph."""

import dataclasses
import json
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from retinaface_tf.config import DetectionSettings, RetinaFaceConfig
from retinaface_tf.errors import ConfigError, RetinaFaceError
from retinaface_tf.images.save import encode_jpeg
from retinaface_tf.modelfile.metadata import ModelMetadata
from retinaface_tf.models import RetinaFaceNetwork
from retinaface_tf.util.files import is_file, is_folder, require_free

Precision = Literal["float32", "float16", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class SavedModelOptions:
    """What is decided at export and fixed in the graph.

    Attributes:
        size: (height, width) that every image is scaled into, its shape kept, and padded to:
            images then go through the network together. None takes each image at its own size,
            larger ones shrunk to a longest side of 2048, as `RetinaFace.detect` does.
        threshold: least score of a face, 0..1.
        iou: overlap above which the worse of two detections is dropped, 0..1.
        max_faces: most faces of an image, the best ones; None for all, as `RetinaFace` gives.
        max_pixels: JPEG images with more, and others with more than half of that, are refused by
            their header (status 2).
        precision: number type of weights and network. Half the size on disk and, on GPUs, faster;
            on most CPUs slower. Boxes are decoded in float32 always.
        freeze: weights as constants of the graph, which TensorFlow folds and runs faster; False
            keeps them as variables in their own file.
    """

    size: tuple[int, int] | None = None
    threshold: float = DetectionSettings.threshold
    iou: float = DetectionSettings.iou
    max_faces: int | None = None
    max_pixels: int = 100_000_000
    precision: Precision = "float32"
    freeze: bool = True

    def __post_init__(self):
        DetectionSettings(threshold=self.threshold, iou=self.iou, max_faces=self.max_faces)
        if not isinstance(self.max_pixels, int) or not 1 <= self.max_pixels < 2**31:
            raise ConfigError(f"max_pixels={self.max_pixels!r} must be a whole number, at least 1.")
        if self.size is not None and not all(32 <= side <= 8192 for side in self.size):
            raise ConfigError(
                f"size={self.size!r} must be a height and a width from 32 to 8192 pixels, or None."
            )
        if self.precision not in ("float32", "float16", "bfloat16"):
            raise ConfigError(f"precision={self.precision!r} must be float32, float16 or bfloat16.")


def export_savedmodel(
    model: RetinaFaceNetwork,
    folder: str | Path,
    options: SavedModelOptions | None = None,
    *,
    version: int | None = None,
    source: str | None = None,
) -> Path:
    """Writes a model version for TF-Serving into `folder/VERSION/`.

    The version appears whole or not at all: it is written under a name that servers ignore, then
    renamed. Two signatures: `serving_default` takes `image_bytes`, string [B] (JPEG, PNG,
    BMP, first frame of GIF); `image_tensor` takes `images`, uint8 RGB [B, H, W, 3]. Both give
    `boxes` [B, K, 4] x1, y1, x2, y2 in pixels of the original image, `scores` [B, K]
    descending, `landmarks` [B, K, 5, 2], `num_faces` int32 [B], `status` int32 [B] (0 good, 1
    undecodable, 2 more pixels than `max_pixels`) and `truncated` int32 [B] (1 where `max_faces`
    left faces out); of a network with a dense branch also `vertices` [B, K, V, 3]. K is
    `max_faces`, without it the largest number of faces of an image of the request. Entries behind
    the last face are zero.

    Args:
        folder: the model's; its name is what clients call the model by default.
        version: a positive number; None takes the one above the highest there is, first 1.
        source: of the weights, recorded beside the model.

    Raises:
        ConfigError: the version exists, or Keras runs on another backend than TensorFlow.
        RetinaFaceError: the folder cannot be written.
    """
    import keras

    if keras.backend.backend() != "tensorflow":
        raise ConfigError(
            f"A SavedModel needs Keras on TensorFlow and it runs on {keras.backend.backend()}; "
            "unset KERAS_BACKEND."
        )
    options = options or SavedModelOptions()
    folder = Path(folder)
    target = folder / str(free_version(folder, version))
    partial = folder / f".{target.name}.{uuid.uuid4().hex[:8]}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _save(model, partial, options)
        extra = partial / "assets.extra"
        extra.mkdir()
        _write_metadata(extra / "retinaface.json", model.config, options, source)
        write_warmup_requests(extra / "tf_serving_warmup_requests", options.size)
        partial.rename(target)
    except OSError as error:
        raise RetinaFaceError(f"Cannot write {target}: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def free_version(folder: Path, version: int | None) -> int:
    """The number that `export_savedmodel` will write, before the work begins.

    Raises:
        ConfigError: that version exists, or no folder can be made there.
    """
    if is_file(folder):
        raise ConfigError(f"{folder} is a file; a SavedModel is written into a folder.")
    inside = folder.glob("*") if is_folder(folder) else ()
    present = [int(path.name) for path in inside if path.name.isdecimal()]
    if version is None:
        version = max(present, default=0) + 1
    if not 1 <= version < 2**63:
        raise ConfigError(f"version={version} must be a positive number of at most 64 bits.")
    if version in present:
        raise ConfigError(f"{folder / str(version)} exists; leave out the version for the next.")
    require_free(folder / str(version))
    return version


def _save(model: RetinaFaceNetwork, folder: Path, options: SavedModelOptions) -> None:
    import tensorflow as tf

    from retinaface_tf.export.detection_graph import DetectionGraph
    from retinaface_tf.inference.runtimes.keras import trace_heads
    from retinaface_tf.layers.deformable_conv import for_exporters
    from retinaface_tf.models.read_heads import dense_weights

    if options.precision != "float32":
        model = _with_precision(model, options.precision)
    with for_exporters(model):
        heads = trace_heads(model, options.size, options.freeze)
    names = ModelMetadata(config=model.config).output_names
    graph = DetectionGraph(
        lambda images: dict(zip(names, heads(images), strict=True)),
        model.config,
        options,
        dense_weights(model),
    )
    module = tf.Module()
    if not options.freeze:
        module.weights = [weight.value for weight in model.weights]

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")])
    def image_bytes(image_bytes):
        return graph.detect_encoded(image_bytes)

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, "images")])
    def image_tensor(images):
        return graph.detect_pixels(images)

    module.image_bytes, module.image_tensor = image_bytes, image_tensor
    tf.saved_model.save(
        module,
        str(folder),
        signatures={"serving_default": image_bytes, "image_tensor": image_tensor},
    )


def _with_precision(model: RetinaFaceNetwork, precision: Precision) -> RetinaFaceNetwork:
    """The same network with weights and arithmetic of another number type."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        copy = RetinaFaceNetwork(model.config)
    finally:
        keras.config.set_dtype_policy(before)
    copy.set_weights(model.get_weights())
    return copy


def _write_metadata(
    path: Path, config: RetinaFaceConfig, options: SavedModelOptions, source: str | None
) -> None:
    import keras
    import tensorflow as tf

    import retinaface_tf

    note = {
        "format": 1,
        "written_by": f"retinaface-tf {retinaface_tf.__version__}",
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "network": config.to_dict(),
        # A size stands in this file as width, height.
        "options": {**dataclasses.asdict(options), "size": options.size and options.size[::-1]},
        "outputs": {
            "boxes": "float32 [B, K, 4] x1, y1, x2, y2 in pixels of the original image",
            "scores": "float32 [B, K] descending, 0 behind the last face",
            "landmarks": "float32 [B, K, 5, 2] x, y: the image's left eye, right eye, nose, "
            "left mouth corner, right mouth corner",
            "num_faces": "int32 [B]",
            "status": "int32 [B] 0 good, 1 undecodable, 2 too many pixels",
            "truncated": "int32 [B] 1 where max_faces left faces out",
            **({"vertices": "float32 [B, K, V, 3] pixels, z away"} if config.dense else {}),
        },
        **({"source": source} if source else {}),
    }
    path.write_text(json.dumps(note, indent=2) + "\n")


# (height, width) of the images asked for where the model takes each at its own size.
_COMMON_SIZES = ((480, 640), (640, 480), (768, 1024))
_BATCHES = (1, 2, 8)


def write_warmup_requests(path: Path, size: tuple[int, int] | None) -> int:
    """Writes `assets.extra/tf_serving_warmup_requests`, a TFRecord file of PredictionLog messages.

    Args:
        size: (height, width) of the network's input, None if it is the image's own.

    Returns:
        How many requests there are; TF-Serving takes at most 1,000.
    """
    import tensorflow as tf

    requests = [
        _prediction_log("serving_default", "image_bytes", [encode_jpeg(_gradient(*shape))] * batch)
        for shape in ([size] if size else _COMMON_SIZES)
        for batch in _BATCHES
    ]
    image = _gradient(*(size or _COMMON_SIZES[0]))
    requests.append(_prediction_log("image_tensor", "images", image[None]))
    with tf.io.TFRecordWriter(str(path)) as writer:
        for request in requests:
            writer.write(request)
    return len(requests)


def _prediction_log(signature: str, name: str, values) -> bytes:
    from retinaface_tf.protocol.messages import PredictionLog
    from retinaface_tf.protocol.tensors import to_message

    log = PredictionLog()
    request = log.predict_log.request
    request.model_spec.signature_name = signature
    request.inputs[name].CopyFrom(to_message(values))
    return log.SerializeToString()


def _gradient(height: int, width: int) -> np.ndarray:
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return np.stack([x, y, (x + y) / 2], axis=-1).astype(np.uint8)
