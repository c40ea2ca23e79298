"""The network in Keras itself, on whatever backend Keras was started with."""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Callable

import keras
import numpy as np

from retinaface_tf.errors import RetinaFaceError
from retinaface_tf.inference.preprocess import bucket_shape
from retinaface_tf.inference.runtimes.runtime import DenseOutputs, RawOutputs, Runtime, join_outputs
from retinaface_tf.models import RetinaFaceNetwork
from retinaface_tf.models.read_heads import dense_weights, raw_heads
from retinaface_tf.util.per_process import PerProcess


class KerasRuntime(PerProcess, Runtime):
    """Runs a `RetinaFaceNetwork`, compiled once for every batch and image size.

    On TensorFlow the weights are taken as they are now: training the model afterwards does not
    change this runtime. A pickle or copy has the model's weights at that time. Keras does not work
    in a process forked from one that used it: there a call raises an error.

    Attributes:
        name: "keras".
        config: the network's.
        model: the network.

    Raises:
        RetinaFaceError: when called, in such a process.
    """

    name = "keras"
    _own = ("_lock", "_model", "_forward", "_any_shape")

    def __init__(self, model: RetinaFaceNetwork):
        self.config = model.config
        self.dense_weights = dense_weights(model)
        self._packed: bytes | None = None
        self._forget()
        _claim_process()
        self._start(model)

    @property
    def model(self) -> RetinaFaceNetwork:
        self._open()
        return self._model

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._model = self._forward = self._any_shape = None

    def _open(self) -> None:
        """Makes the model of a pickle, at first use in a process."""
        with self._lock:
            if self._forward is None:
                _claim_process()
                self._start(pickle.loads(self._packed))

    def _start(self, model: RetinaFaceNetwork) -> None:
        self._model, self._any_shape = model, _runs_any_shape()
        self._forward = _compile(model)

    def __getstate__(self) -> dict:
        return {**super().__getstate__(), "_packed": self._packed or pickle.dumps(self._model)}

    def input_shape(self, height: int, width: int) -> tuple[int, int]:
        """The image's own size on a CPU; one of few padded shapes where batches pay (GPU) or
        each new shape costs a compilation (JAX).
        """
        self._open()
        if self._any_shape:
            return height, width
        return bucket_shape(height, width, self.config.max_stride)

    def __call__(self, images: np.ndarray) -> RawOutputs | DenseOutputs:
        """uint8 RGB [B, H, W, 3] -> `RawOutputs`."""
        self._open()
        return join_outputs([keras.ops.convert_to_numpy(v) for v in self._forward(images)])


# The process in which Keras was first used here.
_process: int | None = None


def _claim_process() -> None:
    """Refuses to use Keras where it would wait for threads that are in the parent process."""
    global _process
    _process = _process or os.getpid()
    if _process != os.getpid():
        raise RetinaFaceError(
            "The runtime 'keras' does not work in a process forked from one that used it: take "
            "multiprocessing.get_context('spawn'), or the runtime 'litert' or 'onnx'."
        )


def _runs_any_shape() -> bool:
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return not tf.config.list_physical_devices("GPU")


def _compile(model: RetinaFaceNetwork):
    if keras.backend.backend() != "tensorflow":
        heads = raw_heads(model)
        return lambda images: tuple(heads(images).values())
    import tensorflow as tf

    # One trace with every dimension open serves all sizes.
    traced = trace_heads(model)
    return lambda images: traced(tf.constant(images, tf.uint8))


def trace_heads(
    model: RetinaFaceNetwork, size: tuple[int, int] | None = None, freeze: bool = True
) -> Callable:
    """The raw heads as one TensorFlow graph: uint8 [B, H, W, 3] -> their values in order.

    Args:
        model: the network.
        size: (height, width) of the images; None for any.
        freeze: weights as constants, so that TensorFlow folds batch norm into the convolutions: a
            quarter less time.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    heads = raw_heads(model)
    signature = [tf.TensorSpec([None, *(size or (None, None)), 3], tf.uint8)]
    forward = tf.function(lambda images: tuple(heads(images).values()), input_signature=signature)
    traced = forward.get_concrete_function()
    return convert_variables_to_constants_v2(traced) if freeze else traced
