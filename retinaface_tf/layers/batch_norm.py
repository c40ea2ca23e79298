"""Batch normalisation, and the variant of it that a network is trained with.

A network built inside `training_batch_norm` has the variant; what it computes at inference, its
variables and the names in its files are those of Keras' layer.
"""

import contextlib
import contextvars
from collections.abc import Iterator

import keras
from keras import layers

# Of the public PyTorch networks; Keras' default of 1e-3 would change their outputs.
EPSILON = 1e-5


class TrainingBatchNormalization(layers.BatchNormalization):
    """Computes by TensorFlow's fused kernel where that is the same but for rounding.

    Keras 3 composes batch norm of elementwise operations, each a pass over the map, forward and
    backward. The fused kernel is one: a step of `lite` takes about a quarter less time on a CPU.
    Other backends, precisions other than float32 and synchronised layers, whose statistics are
    those of several devices, compute as Keras does.

    Attributes:
        fixed: the stored statistics are used in training too; scale and offset still learn. Usual
            where a trained detector learns on from few images a step (torchvision's
            FrozenBatchNorm2d, which fixes scale and offset too).
    """

    fixed = False

    def call(self, inputs, training=None, mask=None):
        training = training and not self.fixed
        plain = keras.backend.backend() != "tensorflow" or self.dtype_policy.name != "float32"
        if plain or self.synchronized or mask is not None or len(inputs.shape) != 4:
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        def normalize(mean, variance, learning):
            return tf.raw_ops.FusedBatchNormV3(
                x=inputs,
                scale=self.gamma.value,
                offset=self.beta.value,
                mean=mean,
                variance=variance,
                epsilon=self.epsilon,
                is_training=learning,
            )

        if not (training and self.trainable):
            return normalize(self.moving_mean.value, self.moving_variance.value, False)[0]
        empty = tf.zeros([0])
        outputs, mean, variance, *_ = normalize(empty, empty, True)
        # The kernel gives the unbiased variance; Keras keeps the biased one.
        count = tf.cast(tf.size(inputs) // tf.shape(inputs)[-1], tf.float32)
        variance *= (count - 1) / count
        keep = self.momentum
        self.moving_mean.assign(self.moving_mean * keep + mean * (1 - keep))
        self.moving_variance.assign(self.moving_variance * keep + variance * (1 - keep))
        return outputs


# Keras names weights in files by the class of their layer. It is named as Keras' own, so a file is
# the same whichever class wrote it, and does not need this one to be read.
TrainingBatchNormalization.__name__ = layers.BatchNormalization.__name__

_class = contextvars.ContextVar("batch_norm", default=layers.BatchNormalization)


@contextlib.contextmanager
def training_batch_norm() -> Iterator[None]:
    """Networks that are built inside have `TrainingBatchNormalization`."""
    token = _class.set(TrainingBatchNormalization)
    try:
        yield
    finally:
        _class.reset(token)


def batch_norm(name: str) -> layers.BatchNormalization:
    """A batch norm layer of our networks, of the class that `training_batch_norm` asks for."""
    return _class.get()(epsilon=EPSILON, momentum=0.9, name=name)
