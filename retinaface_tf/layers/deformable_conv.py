"""Deformable convolution, v1 (Dai et al. 2017) and modulated v2 (Zhu et al. 2019).

A kernel's tap reads the map between its cells, at its regular place plus an offset that another
convolution predicts for every output cell. Its cost is memory traffic: four neighbours of every
sampled point. So here

- a sample is one 2x2 neighbourhood of a map padded once, so that no corner is tested;
- offsets move whole vectors of channels, and the interpolation is a product of matrices;
- few taps are taken at a time and summed, so that what lies between stays in the processor's cache;
- the gradient keeps the inputs alone and samples again; the derivatives along y and x are the same
  product with other weights.

`sampling_grid` says where a tap reads, `neighbourhoods` reads.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import keras
from keras import layers, ops

from retinaface_tf.errors import ConfigError
from retinaface_tf.layers.neighbourhoods import (
    Neighbourhoods,
    Sampling,
    is_sparse,
    neighbourhoods,
)
from retinaface_tf.layers.sampling_grid import (
    BORDER,
    Grid,
    Pair,
    bilinear,
    bilinear_and_slopes,
    side,
    take_samples,
)


def deformable_conv2d(
    x,
    kernel,
    offsets,
    mask=None,
    *,
    strides: int | Pair = 1,
    padding: str | int | tuple[Pair, Pair] = "same",
    dilation_rate: int | Pair = 1,
    groups: int = 1,
    sampling: Sampling = "auto",
    own_gradient: bool = True,
):
    """Convolution whose taps are displaced, and optionally weighted, in every output cell.

    Samples are bilinear; what lies outside the map is zero, each neighbour by itself (as in ONNX'
    DeformConv and torchvision).

    Args:
        x: [B, H, W, C], any float type.
        kernel: [kh, kw, C / groups, F].
        offsets: [B, Ho, Wo, D * kh * kw * 2] in cells, (y, x) for each tap of each of D deformable
            groups: D equal runs of channels that move together. Computed with in float32 at least.
        mask: [B, Ho, Wo, D * kh * kw] factor of each sample; None is 1.
        strides, dilation_rate: as in `keras.layers.Conv2D`.
        padding: "same" or "valid" as in `keras.layers.Conv2D`, a number of cells for all sides, or
            ((top, bottom), (left, right)).
        groups: of the convolution; they divide C and F.
        sampling: "gather" runs on every backend, in XLA and through every exporter; "sparse" is
            quicker on TensorFlow without a GPU, and "auto" takes it there.
        own_gradient: with the gradient that samples again; else the backend's own, which keeps all
            samples. For graphs that are never differentiated: less to trace.

    Returns:
        [B, Ho, Wo, F] of x's type.

    Raises:
        ConfigError: there is no such sampling here.
    """
    kh, kw = kernel.shape[:2]
    strides, dilation = _pair(strides), _pair(dilation_rate)
    (top, bottom), (left, right) = resolve_padding(x, (kh, kw), strides, padding, dilation)
    out_height = _output_side(side(x, 1) + top + bottom, kh, strides[0], dilation[0])
    out_width = _output_side(side(x, 2) + left + right, kw, strides[1], dilation[1])
    grid = Grid((kh, kw), strides, dilation, (top, left), (out_height, out_width))
    tensors = (x, kernel, offsets) if mask is None else (x, kernel, offsets, mask)

    def run(*tensors):
        return _differentiable(grid, groups, neighbourhoods(sampling), *tensors)

    return ops.custom_gradient(run)(*tensors) if own_gradient else run(*tensors)[0]


@contextmanager
def for_exporters(model: keras.Model, convolve: Callable | None = None) -> Iterator[None]:
    """Within, the model's deformable convolutions are traced as exporters take them.

    Args:
        model: has `DeformableConv2D` layers, or none.
        convolve: takes the place of `deformable_conv2d` with sampling "gather", which every
            exporter takes. Called with its first four arguments and, by name, strides, padding,
            dilation_rate and groups.
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
    """`keras.layers.Conv2D` that learns where its taps look.

    A second convolution of the same geometry predicts two offsets a tap, and in v2 a mask of
    `mask_scale * sigmoid`. It starts at zero: the fresh layer is the plain convolution (with
    `mask_scale` 2, as in the MXNet original; with 1 it is half of it, as in the paper).

    Args:
        filters, kernel_size, strides, dilation_rate, groups, use_bias: as in `Conv2D`.
        padding: "same", "valid", a number or ((top, bottom), (left, right)).
        deformable_groups: runs of input channels that move separately.
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
        self.kernel_size = _pair(kernel_size)
        self.strides = _pair(strides)
        self.padding = padding if isinstance(padding, str) else _sides(padding)
        self.dilation_rate = _pair(dilation_rate)
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
        sides = []
        for axis in (0, 1):
            side = input_shape[1 + axis]
            kernel, stride = self.kernel_size[axis], self.strides[axis]
            if side is not None and self.padding == "same":
                side = -(-side // stride)
            elif side is not None:
                border = 0 if self.padding == "valid" else sum(self.padding[axis])
                side = _output_side(side + border, kernel, stride, self.dilation_rate[axis])
            sides.append(side)
        return (input_shape[0], *sides, self.filters)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "dilation_rate": self.dilation_rate,
            "groups": self.groups,
            "deformable_groups": self.deformable_groups,
            "modulated": self.modulated,
            "mask_scale": self.mask_scale,
            "offset_gradient_scale": self.offset_gradient_scale,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "sampling": self.sampling,
        }


def scale_gradient(x, scale: float):
    """x unchanged, its gradient times `scale`."""
    constant = ops.stop_gradient(x)
    return constant + scale * (x - constant)


def _differentiable(grid: Grid, groups: int, reader: Neighbourhoods, x, kernel, offsets, mask=None):
    """The convolution and its gradient function, for `ops.custom_gradient`."""
    filters, channels = kernel.shape[-1], x.shape[-1]
    taps = grid.kernel[0] * grid.kernel[1]
    rows, cells, steps, fy, fx, factors = take_samples(grid, x, offsets, mask)

    def blend(cell, weights, sums):
        """[N, taps, D, (K,) 4] weights -> [N * taps * D, K, C / D]."""
        weights = ops.reshape(weights, (-1, sums, 4))
        return reader.blend(rows, ops.reshape(cell, (-1,)), steps, weights)

    weights = bilinear(fy, fx)
    if factors is not None:
        weights = weights * factors[..., None]
    kernels = ops.reshape(kernel, (taps, *kernel.shape[2:]))
    together = reader.taps_together or grid.kernel[1]
    total = None
    for cell, weight, tap_kernels in zip(
        _parts(cells, together), _parts(weights, together), _parts(kernels, together, axis=0)
    ):
        columns = blend(_after([total], cell), weight, 1)
        columns = ops.reshape(columns, (-1, together * channels))
        part = _combine(columns, tap_kernels, groups)
        total = part if total is None else total + part
    output = ops.reshape(total, (-1, *grid.output, filters))

    def backward(*args, upstream=None):
        if upstream is None:
            (upstream,) = args
        upstream = ops.reshape(upstream, (-1, filters))
        scales = [None] * taps if factors is None else _parts(factors, together)
        d_rows, d_kernels, d_samples = None, [], []
        for cell, weight, step_y, step_x, scale, tap_kernels in zip(
            _parts(cells, together),
            _parts(weights, together),
            _parts(fy, together),
            _parts(fx, together),
            scales,
            _parts(kernels, together, axis=0),
        ):
            cell = _after([d_rows, *d_kernels[-1:], *d_samples[-1:]], cell)
            samples = blend(cell, bilinear_and_slopes(step_y, step_x), 3)
            columns = samples[:, 0]
            if scale is not None:
                columns = columns * ops.cast(ops.reshape(scale, (-1, 1)), columns.dtype)
            columns = ops.reshape(columns, (-1, together * channels))
            d_columns, d_kernel = _combine_gradients(columns, tap_kernels, upstream, groups)
            d_kernels.append(d_kernel)
            d_columns = ops.reshape(d_columns, (-1, samples.shape[-1]))
            d_sample = ops.matmul(samples, d_columns[..., None])
            d_samples.append(ops.reshape(d_sample, (-1, together, cell.shape[2], 3)))
            part = reader.spread(
                d_columns,
                ops.reshape(cell, (-1,)),
                steps,
                ops.reshape(weight, (-1, 4)),
                side(rows, 0),
            )
            d_rows = part if d_rows is None else d_rows + part
        batch, height, width = side(x, 0), side(x, 1), side(x, 2)
        d_map = ops.reshape(d_rows, (batch, height + 2 * BORDER, width + 2 * BORDER, channels))
        # [N, taps, D, 3] -> [N, D, taps, 3]
        d_samples = ops.transpose(ops.concatenate(d_samples, axis=1), (0, 2, 1, 3))
        d_samples = ops.cast(d_samples, fy.dtype)
        d_offsets = d_samples[..., 1:]
        if factors is not None:
            d_offsets = d_offsets * ops.transpose(factors, (0, 2, 1))[..., None]
        gradients = [
            d_map[:, BORDER : BORDER + height, BORDER : BORDER + width, :],
            ops.reshape(ops.concatenate(d_kernels, axis=0), kernel.shape),
            ops.cast(ops.reshape(d_offsets, ops.shape(offsets)), offsets.dtype),
        ]
        if factors is not None:
            d_mask = ops.reshape(d_samples[..., 0], ops.shape(mask))
            gradients.append(ops.cast(d_mask, mask.dtype))
        return tuple(gradients)

    return output, backward


def _parts(values, together: int, axis: int = 1):
    """The taps along that axis, so many at a time."""
    return ops.split(values, values.shape[axis] // together, axis=axis)


def _combine(columns, kernels, groups: int):
    """[N, T * C] x [T, C / groups, F] -> [N, F]."""
    taps, channels, filters = kernels.shape
    if groups == 1:
        return ops.matmul(columns, ops.reshape(kernels, (taps * channels, filters)))
    columns = ops.reshape(columns, (-1, taps, groups, channels))
    kernels = ops.reshape(kernels, (taps, channels, groups, filters // groups))
    return ops.reshape(ops.einsum("ntgc,tcgf->ngf", columns, kernels), (-1, filters))


def _combine_gradients(columns, kernels, upstream, groups: int):
    """Gradients of `_combine`, [N, T * C] and [T, C / groups, F], for its [N, F]."""
    taps, channels, filters = kernels.shape
    if groups == 1:
        kernel = ops.reshape(kernels, (taps * channels, filters))
        d_kernels = ops.matmul(ops.transpose(columns), upstream)
        return ops.matmul(upstream, ops.transpose(kernel)), ops.reshape(d_kernels, kernels.shape)
    grouped = ops.reshape(kernels, (taps, channels, groups, filters // groups))
    upstream = ops.reshape(upstream, (-1, groups, filters // groups))
    columns = ops.reshape(columns, (-1, taps, groups, channels))
    d_columns = ops.einsum("ngf,tcgf->ntgc", upstream, grouped)
    d_kernels = ops.einsum("ntgc,ngf->tcgf", columns, upstream)
    return ops.reshape(d_columns, (-1, taps * groups * channels)), ops.reshape(
        d_kernels, kernels.shape
    )


def _after(previous, x):
    """x, not to be had before all of `previous` are; x at once if they start with None.

    TensorFlow starts whatever is ready: all taps at once, and their memory with them.
    """
    if previous[0] is None or keras.backend.backend() != "tensorflow":
        return x
    import tensorflow as tf

    with tf.control_dependencies(previous):
        return tf.identity(x)


def _output_side(padded, kernel: int, stride: int, dilation: int):
    return (padded - (kernel - 1) * dilation - 1) // stride + 1


def resolve_padding(x, kernel: Pair, strides: Pair, padding, dilation: Pair):
    """((top, bottom), (left, right)) in cells; numbers, or tensors for sides not yet known."""
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding != "same":
        return _sides(padding)
    result = []
    for axis in (0, 1):
        reach, stride = (kernel[axis] - 1) * dilation[axis] + 1, strides[axis]
        if stride == 1:
            total = reach - 1
        else:
            cells = side(x, axis + 1)
            # No negative numbers: ONNX divides them towards zero.
            total = (cells + stride - 1) // stride * stride - stride + reach - cells
            total = max(total, 0) if isinstance(total, int) else ops.maximum(total, 0)
        result.append((total // 2, total - total // 2))
    return tuple(result)


def _sides(padding) -> tuple[Pair, Pair]:
    if isinstance(padding, int):
        return (padding, padding), (padding, padding)
    (top, bottom), (left, right) = padding
    return (top, bottom), (left, right)


def _pair(value) -> Pair:
    return (value, value) if isinstance(value, int) else tuple(value)
