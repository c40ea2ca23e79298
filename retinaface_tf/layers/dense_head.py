"""The dense regression head: its weights, and the vertices of gathered faces."""

import dataclasses

import keras
import numpy as np
from keras import layers, ops

from retinaface_tf.config import DenseConfig
from retinaface_tf.layers.dense_frames import regress
from retinaface_tf.util.options import from_dict


@keras.saving.register_keras_serializable(package="retinaface_tf")
class DenseHead(layers.Layer):
    """From features sampled on a face to its vertices' deltas (`dense_frames.regress`).

    A 1x1 convolution of low rank on gathered cells for `grid` 1 and no `hidden`, as in CVPR 2020;
    the last, linear layer may be initialised with principal components of labelled faces (`set_basis`).

    Args:
        config: its shape, a `DenseConfig` or that as a dict.
        slots: anchors of a cell, over all levels: each has a first layer of its own.
        channels: of the features.
        variance: the network's centre variance, by which the deltas are scaled as landmarks' are.
    """

    def __init__(
        self,
        config: DenseConfig | dict,
        slots: int,
        channels: int,
        variance: float = 0.1,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.config = config if isinstance(config, DenseConfig) else from_dict(DenseConfig, config)
        self.slots, self.channels, self.variance = slots, channels, variance
        self.build()

    def build(self, input_shape=None):
        if self.built:
            return
        config = self.config
        extra = 19 if config.frame == "face" else 0
        width = config.grid**2 * config.reduced + extra
        self._add("reduce_kernel", (self.slots, self.channels, config.reduced))
        self._add("reduce_bias", (self.slots, config.reduced))
        for number, hidden in enumerate(config.hidden):
            self._add(f"hidden{number}_kernel", (width, hidden))
            self._add(f"hidden{number}_bias", (hidden,))
            width = hidden + extra
        self._add("code_kernel", (width, config.rank))
        self._add("code_bias", (config.rank,))
        self._add("basis", (config.rank, 3 * config.vertices))
        self._add("mean", (3 * config.vertices,))
        if extra:
            self._add("shape", (3 * config.vertices,), trainable=False)
            self._add("five", (5, 3), trainable=False)
        self.built = True

    def _add(self, name: str, shape: tuple[int, ...], trainable: bool = True) -> None:
        initializer = "zeros" if name in ("mean", "shape") or name.endswith("bias") else "he_normal"
        if name == "reduce_kernel":
            initializer = keras.initializers.RandomNormal(stddev=(2 / shape[1]) ** 0.5)
        weight = self.add_weight(
            shape=shape, initializer=initializer, trainable=trainable, name=name
        )
        setattr(self, f"_weight_{name}", weight)

    @property
    def named_weights(self) -> dict:
        """The weights by name, as `dense_frames.regress` takes them."""
        return {weight.name: weight for weight in self.weights}

    def set_basis(self, mean: np.ndarray, basis: np.ndarray) -> None:
        """Initialises the last layer with a mean [V, 3] and directions [rank, V, 3] in which faces differ."""
        self._weight_mean.assign(np.reshape(mean, -1))
        self._weight_basis.assign(np.reshape(basis, (self.config.rank, -1)))

    def set_shape(self, shape: np.ndarray, five: np.ndarray) -> None:
        """The mean face [V, 3] of the coordinate frame "face" and its five points [5, 3]; both fixed."""
        self._weight_shape.assign(np.reshape(shape, -1))
        self._weight_five.assign(five)

    def call(self, samples, points, slots):
        weights = {name: ops.convert_to_tensor(w) for name, w in self.named_weights.items()}
        return regress(samples, points, slots, weights, self.config, self.variance)

    def get_config(self):
        return {
            **super().get_config(),
            "config": dataclasses.asdict(self.config),
            "slots": self.slots,
            "channels": self.channels,
            "variance": self.variance,
        }
