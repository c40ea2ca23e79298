"""The network in Keras itself, on whatever backend Keras was started with."""

from __future__ import annotations

import keras
import numpy as np

from retinaface_tf.inference.preprocess import bucket_shape
from retinaface_tf.inference.runtimes.runtime import RawOutputs, Runtime, join_outputs
from retinaface_tf.models import RetinaFaceNetwork
from retinaface_tf.models.read_heads import dense_weights, raw_heads


class KerasRuntime(Runtime):
    """Runs a `RetinaFaceNetwork`, compiled once for every batch and image size.

    On TensorFlow the weights are taken as they are now: training the model afterwards does not
    change this runtime.

    Attributes:
        name: "keras".
        config: the network's.
        model: the network.
    """

    name = "keras"

    def __init__(self, model: RetinaFaceNetwork):
        self.model = model
        self.config = model.config
        self.dense_weights = dense_weights(model)
        self._forward = _compile(model)
        self._any_shape = _runs_any_shape()

    def input_shape(self, height: int, width: int) -> tuple[int, int]:
        """The image's own size on a CPU; one of few padded shapes where batches pay (GPU) or
        each new shape costs a compilation (JAX).
        """
        if self._any_shape:
            return height, width
        return bucket_shape(height, width, self.config.max_stride)

    def __call__(self, images: np.ndarray) -> RawOutputs:
        """uint8 RGB [B, H, W, 3] -> `RawOutputs`."""
        return join_outputs([keras.ops.convert_to_numpy(v) for v in self._forward(images)])


def _runs_any_shape() -> bool:
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return not tf.config.list_physical_devices("GPU")


def _compile(model: RetinaFaceNetwork):
    heads = raw_heads(model)

    def forward(images):
        return tuple(heads(images).values())

    if keras.backend.backend() != "tensorflow":
        return forward
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    # One trace with every dimension open serves all sizes. With the weights as constants
    # TensorFlow folds batch norm into the convolutions: a quarter less time.
    signature = [tf.TensorSpec([None, None, None, 3], tf.uint8)]
    traced = tf.function(forward, input_signature=signature).get_concrete_function()
    frozen = convert_variables_to_constants_v2(traced)
    return lambda images: frozen(tf.constant(images, tf.uint8))
