"""Deformable convolution, v1 (Dai et al. 2017) and modulated v2 (Zhu et al. 2019).

A kernel's tap reads the map between its cells, at its regular place plus an offset that another
convolution predicts for every output cell. Its cost is memory traffic: four neighbours of every
sampled point. So here

- a tap is one gather of 2x2 neighbourhoods, from a map padded once, so that no corner is tested;
- offsets move whole vectors of channels, and the interpolation is a [1, 4] x [4, C] product;
- taps are taken one after another and summed: the largest array is four times the map, not
  4 x kernel height x kernel width times, and stays in the processor's cache;
- the gradient keeps the inputs alone and gathers again.
"""

from __future__ import annotations

import keras
from keras import layers, ops

from retinaface_tf.errors import ConfigError

# Rows and columns of zeros around the map: a 2x2 neighbourhood wholly outside still has a place.
_BORDER = 2
# Offsets beyond this many cells are outside every map; larger ones would not fit an int32.
_FAR = 1e6

Pair = tuple[int, int]


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

    Returns:
        [B, Ho, Wo, F] of x's type.
    """
    kh, kw = kernel.shape[:2]
    strides, dilation = _pair(strides), _pair(dilation_rate)
    (top, bottom), (left, right) = _resolve_padding(x, (kh, kw), strides, padding, dilation)
    out_height = _output_side(_side(x, 1) + top + bottom, kh, strides[0], dilation[0])
    out_width = _output_side(_side(x, 2) + left + right, kw, strides[1], dilation[1])
    taps = _Taps(kh, kw, strides, dilation, (top, left), (out_height, out_width), groups)
    offsets = ops.cast(offsets, _coordinate_type(offsets.dtype))
    if mask is None:
        run = ops.custom_gradient(lambda *tensors: _differentiable(taps, *tensors, None))
        return run(x, kernel, offsets)
    run = ops.custom_gradient(lambda *tensors: _differentiable(taps, *tensors))
    return run(x, kernel, offsets, mask)


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
        y = deformable_conv2d(
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
        }


def scale_gradient(x, scale: float):
    """x unchanged, its gradient times `scale`."""
    constant = ops.stop_gradient(x)
    return constant + scale * (x - constant)


class _Taps:
    """The regular part of the sampling grid, and the sampling itself.

    Args:
        kh, kw, strides, dilation, groups: of the convolution.
        origin: cells of padding above and to the left.
        output: rows and columns of the output.
    """

    def __init__(self, kh, kw, strides, dilation, origin, output, groups):
        self.kh, self.kw, self.strides, self.dilation = kh, kw, strides, dilation
        self.origin, self.output, self.groups = origin, output, groups

    def split(self, x, offsets, mask):
        """The padded map as rows of channels, and for every tap where and how to sample it.

        Returns:
            rows [B * Hp * Wp * D, C / D]; indices int32 [taps, N, D, 4] of the 2x2 neighbourhoods
            (N = B * Ho * Wo); fractions (y, x), each [taps, N, D]; mask [taps, N, D] or None.
        """
        taps = self.kh * self.kw
        groups = offsets.shape[-1] // (2 * taps)
        channels = x.shape[-1]
        batch, height, width = _side(x, 0), _side(x, 1), _side(x, 2)
        out_height, out_width = self.output
        padded_height, padded_width = height + 2 * _BORDER, width + 2 * _BORDER

        offsets = ops.reshape(offsets, (batch, out_height, out_width, groups, taps, 2))
        # [2, taps, B, Ho, Wo, D]: each tap's numbers lie together.
        offsets = ops.transpose(offsets, (5, 4, 0, 1, 2, 3))
        offsets = ops.clip(offsets, -_FAR, _FAR)
        whole = ops.floor(offsets)
        fraction = offsets - whole
        # The regular grid is whole numbers, added as such: no digit of the fraction is lost.
        whole = ops.cast(whole, "int32")
        ky, kx = ops.arange(taps) // self.kw, ops.arange(taps) % self.kw
        y = ops.arange(out_height)[None, :] * self.strides[0] + (
            ky[:, None] * self.dilation[0] - self.origin[0]
        )
        x_ = ops.arange(out_width)[None, :] * self.strides[1] + (
            kx[:, None] * self.dilation[1] - self.origin[1]
        )
        y = whole[0] + ops.cast(y, "int32")[:, None, :, None, None]
        x_ = whole[1] + ops.cast(x_, "int32")[:, None, None, :, None]
        # Clamped, a neighbourhood off the map lies on zeros alone. Also for NaN, whatever it casts to.
        y = ops.clip(y + _BORDER, 0, padded_height - 2)
        x_ = ops.clip(x_ + _BORDER, 0, padded_width - 2)
        start = ops.arange(batch, dtype="int32")[None, :, None, None, None]
        cell = (start * padded_height + y) * padded_width + x_
        cell = ops.reshape(cell, (taps, -1, groups, 1))
        corners = cell + _corner_steps(padded_width)
        indices = corners if groups == 1 else corners * groups + ops.arange(groups)[:, None]

        rows = ops.pad(x, ((0, 0), (_BORDER, _BORDER), (_BORDER, _BORDER), (0, 0)))
        rows = ops.reshape(rows, (-1, channels // groups))
        fraction = ops.reshape(fraction, (2, taps, -1, groups))
        if mask is not None:
            mask = ops.reshape(mask, (-1, groups, taps))
            mask = ops.cast(ops.transpose(mask, (2, 0, 1)), fraction.dtype)
        return rows, ops.cast(indices, "int32"), (fraction[0], fraction[1]), mask

    def combine(self, columns, kernel):
        """[N, C] x [C / groups, F] -> [N, F], in groups."""
        if self.groups == 1:
            return ops.matmul(columns, kernel)
        columns = ops.reshape(columns, (-1, self.groups, kernel.shape[0]))
        kernel = ops.reshape(kernel, (kernel.shape[0], self.groups, -1))
        return ops.reshape(
            ops.einsum("ngc,cgf->ngf", columns, kernel), (-1, self.groups * kernel.shape[-1])
        )

    def combine_gradients(self, columns, kernel, upstream):
        """Gradients of `combine` with respect to columns [N, C] and kernel [C / groups, F]."""
        if self.groups == 1:
            return (
                ops.matmul(upstream, ops.transpose(kernel)),
                ops.matmul(ops.transpose(columns), upstream),
            )
        upstream = ops.reshape(upstream, (-1, self.groups, kernel.shape[1] // self.groups))
        columns = ops.reshape(columns, (-1, self.groups, kernel.shape[0]))
        grouped = ops.reshape(kernel, (kernel.shape[0], self.groups, -1))
        d_columns = ops.einsum("ngf,cgf->ngc", upstream, grouped)
        d_kernel = ops.einsum("ngc,ngf->cgf", columns, upstream)
        return (
            ops.reshape(d_columns, (-1, self.groups * kernel.shape[0])),
            ops.reshape(d_kernel, kernel.shape),
        )


def _differentiable(taps: _Taps, x, kernel, offsets, mask):
    """The convolution and its gradient function, for `ops.custom_gradient`."""
    out_height, out_width = taps.output
    filters = kernel.shape[-1]
    flat_kernel = ops.reshape(kernel, (taps.kh * taps.kw, *kernel.shape[2:]))
    channels = x.shape[-1]

    def sample(tap, previous):
        """Neighbourhoods [N, D, 4, C / D] of a tap, their weights, and where they were."""
        index = indices[tap] if previous is None else _after(previous, indices[tap])
        return ops.take(rows, index, axis=0), weights[tap], index

    def blend(corners, weight):
        return ops.reshape(ops.matmul(weight[..., None, :], corners), (-1, channels))

    rows, indices, (fy, fx), factors = taps.split(x, offsets, mask)
    plain_weights = _bilinear(fy, fx)
    weights = plain_weights if factors is None else plain_weights * factors[..., None]
    weights = ops.cast(weights, x.dtype)
    total = None
    for tap in range(taps.kh * taps.kw):
        corners, weight, _ = sample(tap, total)
        part = taps.combine(blend(corners, weight), flat_kernel[tap])
        total = part if total is None else total + part
    output = ops.reshape(total, (-1, out_height, out_width, filters))

    def backward(*args, upstream=None):
        if upstream is None:
            (upstream,) = args
        upstream = ops.reshape(upstream, (-1, filters))
        d_rows, d_kernel, d_weights = None, [], []
        for tap in range(taps.kh * taps.kw):
            corners, weight, index = sample(tap, upstream if d_rows is None else d_rows)
            d_columns, d_tap = taps.combine_gradients(
                blend(corners, weight), flat_kernel[tap], upstream
            )
            d_kernel.append(d_tap)
            d_columns = ops.reshape(d_columns, (-1, corners.shape[1], corners.shape[-1]))
            d_weights.append(ops.matmul(corners, d_columns[..., None])[..., 0])
            part = ops.segment_sum(
                ops.reshape(weight[..., None] * d_columns[..., None, :], (-1, rows.shape[-1])),
                ops.reshape(index, (-1,)),
                num_segments=_side(rows, 0),
            )
            d_rows = part if d_rows is None else d_rows + part
        batch, height, width = _side(x, 0), _side(x, 1), _side(x, 2)
        d_map = ops.reshape(d_rows, (batch, height + 2 * _BORDER, width + 2 * _BORDER, channels))
        d_weights = ops.cast(ops.stack(d_weights), fy.dtype)
        d_fractions = ops.stack(_bilinear_gradients(fy, fx, d_weights), axis=-1)
        if factors is not None:
            d_fractions = d_fractions * factors[..., None]
        # [taps, N, D, 2] -> [N, D, taps, 2]
        d_offsets = ops.transpose(d_fractions, (1, 2, 0, 3))
        gradients = [
            d_map[:, _BORDER : _BORDER + height, _BORDER : _BORDER + width, :],
            ops.reshape(ops.stack(d_kernel), kernel.shape),
            ops.reshape(d_offsets, ops.shape(offsets)),
        ]
        if factors is not None:
            d_mask = ops.transpose(ops.sum(d_weights * plain_weights, axis=-1), (1, 2, 0))
            gradients.append(ops.cast(ops.reshape(d_mask, ops.shape(mask)), mask.dtype))
        return tuple(gradients)

    return output, backward


def _bilinear(fy, fx):
    """Weights [..., 4] of a 2x2 neighbourhood, row by row."""
    top, left = 1 - fy, 1 - fx
    return ops.stack([top * left, top * fx, fy * left, fy * fx], axis=-1)


def _bilinear_gradients(fy, fx, d_weights):
    """Gradients of the two fractions, from those of the four weights."""
    d00, d01, d10, d11 = (d_weights[..., corner] for corner in range(4))
    d_y = (1 - fx) * (d10 - d00) + fx * (d11 - d01)
    d_x = (1 - fy) * (d01 - d00) + fy * (d11 - d10)
    return d_y, d_x


def _after(previous, indices):
    """`indices`, not to be had before `previous` is.

    TensorFlow starts whatever is ready: all taps' gathers at once, and their memory with them.
    """
    return indices + 0 * ops.cast(previous[:1, :1], "int32")[0, 0]


def _corner_steps(padded_width):
    steps = [0, 1, padded_width, padded_width + 1]
    if isinstance(padded_width, int):
        return ops.convert_to_tensor(steps, dtype="int32")
    return ops.stack([ops.cast(step, "int32") for step in steps])


def _coordinate_type(dtype) -> str:
    dtype = keras.backend.standardize_dtype(dtype)
    return dtype if dtype == "float64" else "float32"


def _side(x, axis: int):
    """A dimension: a number where it is known, else a tensor."""
    return x.shape[axis] if x.shape[axis] is not None else ops.shape(x)[axis]


def _output_side(padded, kernel: int, stride: int, dilation: int):
    return (padded - (kernel - 1) * dilation - 1) // stride + 1


def _resolve_padding(x, kernel: Pair, strides: Pair, padding, dilation: Pair):
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
            side = _side(x, axis + 1)
            # No negative numbers: ONNX divides them towards zero.
            total = (side + stride - 1) // stride * stride - stride + reach - side
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
