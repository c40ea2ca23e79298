"""Deformable convolution, v1 (Dai et al. 2017) and modulated v2 (Zhu et al. 2019), as a layer.

A kernel's tap reads the map between its cells, at its regular place plus an offset that another
convolution predicts for every output cell. `deformable_sampling` computes it.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import keras
from keras import layers, ops

from retinaface_tf.errors import ConfigError
from retinaface_tf.layers.deformable_sampling import deformable_conv2d, output_side, pair, sides
from retinaface_tf.layers.im2col_windows import Sampling, is_sparse
from retinaface_tf.layers.sampling_grid import Pair

_PLAIN_OPTIONS = (
    *("filters", "kernel_size", "strides", "padding", "dilation_rate", "groups"),
    *("deformable_groups", "modulated", "mask_scale", "offset_gradient_scale", "use_bias"),
    "sampling",
)


@contextmanager
def for_exporters(model: keras.Model, convolve: Callable | None = None) -> Iterator[None]:
    """While it is open, the model's deformable convolutions are traced in operators exporters know.

    Args:
        model: has `DeformableConv2D` layers, or none.
        convolve: instead of `deformable_conv2d` with sampling "gather", which every exporter takes.
            Called with its first four arguments and, by name, strides, padding, dilation_rate and
            groups.
    """
    gather = functools.partial(deformable_conv2d, sampling="gather", own_gradient=False)
    found = [layer for layer in model._flatten_layers() if isinstance(layer, DeformableConv2D)]
    for layer in found:
        layer.convolve = convolve or gather
    try:
        yield
    finally:
        for layer in found:
            layer.convolve = None


@keras.saving.register_keras_serializable(package="retinaface_tf")
class DeformableConv2D(layers.Layer):
    """`keras.layers.Conv2D` that learns where its taps read.

    A second convolution of the same geometry predicts two offsets a tap, and in v2 a mask of
    `mask_scale * sigmoid`. It starts at zero: the fresh layer is the plain convolution (with
    `mask_scale` 2, as in the MXNet original; with 1 it is half of it, as in the paper).

    Args:
        filters, kernel_size, strides, dilation_rate, groups, use_bias: as in `Conv2D`.
        padding: "same", "valid", a number or ((top, bottom), (left, right)).
        deformable_groups: equal runs of input channels, each with offsets of its own.
        modulated: v2, with a mask.
        mask_scale: upper end of the mask.
        offset_gradient_scale: factor on the gradient of the offset convolution's weights. For SGD
            that is its learning-rate multiplier (papers: 0.1), without the optimiser knowing;
            optimisers that divide by the gradient's size (Adam) cancel it, and weight decay is not
            scaled.
        kernel_initializer, bias_initializer, kernel_regularizer: as in `Conv2D`, of the main
            convolution.
        sampling: see `deformable_conv2d`; exporters need "gather", which `for_exporters` chooses.

    Input [B, H, W, C], output [B, Ho, Wo, filters].
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | Pair,
        strides: int | Pair = 1,
        *,
        padding: str | int | tuple[Pair, Pair] = "same",
        dilation_rate: int | Pair = 1,
        groups: int = 1,
        deformable_groups: int = 1,
        modulated: bool = True,
        mask_scale: float = 2.0,
        offset_gradient_scale: float = 0.1,
        use_bias: bool = True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        sampling: Sampling = "auto",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = pair(kernel_size)
        self.strides = pair(strides)
        self.padding = padding if isinstance(padding, str) else sides(padding)
        self.dilation_rate = pair(dilation_rate)
        self.groups = groups
        self.deformable_groups = deformable_groups
        self.modulated = modulated
        self.mask_scale = mask_scale
        self.offset_gradient_scale = offset_gradient_scale
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.sampling = sampling
        self.convolve = None  # Instead of `deformable_conv2d`, see `for_exporters`.
        self.supports_jit = not is_sparse(sampling)
        if filters % groups:
            raise ConfigError(f"groups={groups} must divide filters={filters}.")

    def build(self, input_shape):
        channels = input_shape[-1]
        for name, parts in (("groups", self.groups), ("deformable_groups", self.deformable_groups)):
            if channels % parts:
                raise ConfigError(f"{name}={parts} must divide the input's {channels} channels.")
        taps = self.deformable_groups * self.kernel_size[0] * self.kernel_size[1]
        self._offset_channels = 2 * taps
        predicted = (3 if self.modulated else 2) * taps
        self.kernel = self.add_weight(
            name="kernel",
            shape=(*self.kernel_size, channels // self.groups, self.filters),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias", shape=(self.filters,), initializer=self.bias_initializer
            )
        self.offset_kernel = self.add_weight(
            name="offset_kernel",
            shape=(*self.kernel_size, channels, predicted),
            initializer="zeros",
        )
        self.offset_bias = self.add_weight(
            name="offset_bias", shape=(predicted,), initializer="zeros"
        )

    def predict_offsets(self, x, training: bool = False):
        """Offsets [B, Ho, Wo, 2 * taps] in cells and mask [B, Ho, Wo, taps], or None in v1."""
        kernel = ops.convert_to_tensor(self.offset_kernel)
        bias = ops.convert_to_tensor(self.offset_bias)
        if training:
            kernel = scale_gradient(kernel, self.offset_gradient_scale)
            bias = scale_gradient(bias, self.offset_gradient_scale)
        padding = self.padding
        if not isinstance(padding, str):
            x = ops.pad(x, ((0, 0), *padding, (0, 0)))
            padding = "valid"
        predicted = bias + ops.conv(
            x,
            ops.cast(kernel, x.dtype),
            strides=self.strides,
            padding=padding,
            dilation_rate=self.dilation_rate,
            data_format="channels_last",
        )
        offsets = predicted[..., : self._offset_channels]
        if not self.modulated:
            return offsets, None
        mask = ops.sigmoid(predicted[..., self._offset_channels :])
        return offsets, mask if self.mask_scale == 1 else self.mask_scale * mask

    def call(self, x, training: bool = False):
        offsets, mask = self.predict_offsets(x, training)
        convolve = self.convolve or functools.partial(deformable_conv2d, sampling=self.sampling)
        y = convolve(
            x,
            ops.cast(self.kernel, x.dtype),
            offsets,
            mask,
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            groups=self.groups,
        )
        return y if self.bias is None else y + ops.cast(self.bias, y.dtype)

    def compute_output_spec(self, x, training: bool = False):
        # Known without tracing the taps, which makes networks of many such layers quick to build.
        return keras.KerasTensor(self.compute_output_shape(x.shape), dtype=self.compute_dtype)

    def compute_output_shape(self, input_shape):
        shape = []
        for axis in (0, 1):
            side = input_shape[1 + axis]
            kernel, stride = self.kernel_size[axis], self.strides[axis]
            if side is not None and self.padding == "same":
                side = -(-side // stride)
            elif side is not None:
                border = 0 if self.padding == "valid" else sum(self.padding[axis])
                side = output_side(side + border, kernel, stride, self.dilation_rate[axis])
            shape.append(side)
        return (input_shape[0], *shape, self.filters)

    def get_config(self):
        serialized = {
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
        }
        return {
            **super().get_config(),
            **{name: getattr(self, name) for name in _PLAIN_OPTIONS},
            **serialized,
        }


def scale_gradient(x, scale: float):
    """x unchanged, its gradient times `scale`."""
    constant = ops.stop_gradient(x)
    return constant + scale * (x - constant)
