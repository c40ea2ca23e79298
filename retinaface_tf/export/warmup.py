"""Requests that TF-Serving replays when it loads a model, so that no user waits for first runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from retinaface_tf.images.save import encode_jpeg

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
