"""The network's outputs as every runtime and export gives them."""

from __future__ import annotations

import keras
import numpy as np

from retinaface_tf.models import RetinaFaceNetwork


def dense_weights(model: RetinaFaceNetwork) -> dict[str, np.ndarray] | None:
    """The dense head's weights as float32 arrays; None where the network has none."""
    if model.dense_head is None:
        return None
    weights = model.dense_head.named_weights.items()
    return {name: np.asarray(keras.ops.convert_to_numpy(w), np.float32) for name, w in weights}


def read_heads(model: RetinaFaceNetwork, images):
    """The network's answers as `RawOutputs` wants them.

    Args:
        model: the network.
        images: RGB [B, H, W, 3] in 0..255, any number type.

    Returns:
        float32 tensors: scores [B, N], box deltas [B, N, 4], landmark deltas [B, N, 10], and the
        feature maps of a dense branch.
    """
    outputs = model(keras.ops.cast(images, model.compute_dtype), training=False)
    logits = keras.ops.cast(outputs["class_logits"], "float32")
    # Softmax of two classes.
    scores = keras.ops.sigmoid(logits[..., 1] - logits[..., 0])
    return (
        scores,
        keras.ops.cast(outputs["box_deltas"], "float32"),
        keras.ops.cast(outputs["landmark_deltas"], "float32"),
        *(
            keras.ops.cast(outputs[f"features_{level.stride}"], "float32")
            for level in model.config.dense_levels
        ),
    )
