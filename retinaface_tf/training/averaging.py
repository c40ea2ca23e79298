"""The moving average of a network while it learns, which is what gets evaluated and saved."""

import contextlib
from collections.abc import Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf


class MovingAverage:
    """Averages of all variables of a network: its weights and batch norm's moving statistics.

    After the first step the average is the variables' values, after each later one
    `average += (1 - momentum) * (value - average)`, which is what Keras' `use_ema` does for weights.
    Keras leaves the statistics out. But averaged weights give other activations than the weights of
    the moment, whose statistics with momentum 0.9 are those of some ten batches; so they are averaged
    with the weights, as timm's ModelEmaV2 does with buffers. Variables that do not change (frozen
    layers) keep their values to the bit.

    The averages lie on one device. Replicas hold equal values, so the first one's are taken.

    Args:
        variables: of the network; their values now are the average until the first step.
        momentum: what an average keeps of itself in a step, 0..1.
    """

    def __init__(self, variables: Sequence[keras.Variable], momentum: float):
        self.of = [
            variable for variable in variables if keras.backend.is_float_dtype(variable.dtype)
        ]
        self.averages = [
            tf.Variable(np.asarray(variable.value), trainable=False) for variable in self.of
        ]
        self._momentum = momentum
        self._blend = tf.function(self._move)

    def update(self, step: int) -> None:
        """Takes in the values after a step.

        Args:
            step: number of steps done, 1 after the first.
        """
        if step == 1:
            for average, variable in zip(self.averages, self.of):
                average.assign(variable.value)
        else:
            self._blend()

    def _move(self) -> None:
        for average, variable in zip(self.averages, self.of):
            average.assign_add((1.0 - self._momentum) * (variable.value - average))

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside, the network's variables have the averages; afterwards their own values again."""
        kept = [np.asarray(variable.value) for variable in self.of]
        for variable, average in zip(self.of, self.averages):
            variable.assign(average.numpy())
        try:
            yield
        finally:
            for variable, value in zip(self.of, kept):
                variable.assign(value)
