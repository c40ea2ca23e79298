"""Deformable convolution as a function, and its gradient.

A kernel's tap reads the map between its cells, at its regular place plus an offset given for every
output cell. The cost is memory traffic: four cells for every sampled point. Therefore

- a sample is one 2x2 window of a map that is padded once, so that no corner is tested;
- offsets move whole vectors of channels, and the interpolation is a matrix product;
- few taps are computed at a time and summed, so that intermediate values stay in the cache;
- the gradient keeps only the inputs and samples again; the derivatives along y and x are the same
  product with other weights.

`sampling_grid` says where a tap reads; `im2col_windows` reads.
"""

import keras
from keras import ops

from retinaface_tf.layers.im2col_windows import Sampling, WindowSums, window_sums
from retinaface_tf.layers.sampling_grid import (
    BORDER,
    Grid,
    Pair,
    bilinear,
    side,
    slopes,
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
    """Convolution whose taps are moved by offsets, and optionally weighted, in every output cell.

    Samples are bilinear; what lies outside the map is zero, each of the four cells by itself (as in ONNX'
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
    strides, dilation = pair(strides), pair(dilation_rate)
    (top, bottom), (left, right) = resolve_padding(x, (kh, kw), strides, padding, dilation)
    out_height = output_side(side(x, 1) + top + bottom, kh, strides[0], dilation[0])
    out_width = output_side(side(x, 2) + left + right, kw, strides[1], dilation[1])
    grid = Grid((kh, kw), strides, dilation, (top, left), (out_height, out_width))
    tensors = (x, kernel, offsets) if mask is None else (x, kernel, offsets, mask)

    def run(*tensors):
        return _differentiable(grid, groups, window_sums(sampling), *tensors)

    return ops.custom_gradient(run)(*tensors) if own_gradient else run(*tensors)[0]


def _differentiable(
    grid: Grid, groups: int, reader: type[WindowSums], x, kernel, offsets, mask=None
):
    """The convolution and its gradient function, for `ops.custom_gradient`."""
    filters, channels = kernel.shape[-1], x.shape[-1]
    taps = grid.kernel[0] * grid.kernel[1]
    rows, cells, steps, fy, fx, factors = take_samples(grid, x, offsets, mask)

    def windows(cell) -> WindowSums:
        return reader(rows, ops.reshape(cell, (-1,)), steps)

    weights = bilinear(fy, fx, factors)
    kernels = ops.reshape(kernel, (taps, *kernel.shape[2:]))
    together = reader.taps_together or grid.kernel[1]
    total = None
    for cell, weight, tap_kernels in zip(
        _parts(cells, together), _parts(weights, together), _parts(kernels, together, axis=0)
    ):
        columns = windows(_after([total], cell)).blend(ops.reshape(weight, (-1, 4)))
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
            window = windows(cell)
            samples = [
                window.blend(ops.reshape(sums, (-1, 4)))
                for sums in (bilinear(step_y, step_x), *slopes(step_y, step_x))
            ]
            columns = samples[0]
            if scale is not None:
                columns = columns * ops.cast(ops.reshape(scale, (-1, 1)), columns.dtype)
            columns = ops.reshape(columns, (-1, together * channels))
            d_columns, d_kernel = _combine_gradients(columns, tap_kernels, upstream, groups)
            d_kernels.append(d_kernel)
            d_columns = ops.reshape(d_columns, (-1, rows.shape[-1]))
            d_sample = ops.stack([ops.sum(one * d_columns, axis=-1) for one in samples], axis=-1)
            d_samples.append(ops.reshape(d_sample, (-1, together, cell.shape[2], 3)))
            part = window.spread(d_columns, ops.reshape(weight, (-1, 4)))
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
    """Split into parts of that many taps along an axis."""
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
    """x, computed only after all of `previous`; x itself where the first of them is None.

    TensorFlow starts whatever is ready: all taps at once, with the memory of all.
    """
    if previous[0] is None or keras.backend.backend() != "tensorflow":
        return x
    import tensorflow as tf

    with tf.control_dependencies(previous):
        return tf.identity(x)


def output_side(padded, kernel: int, stride: int, dilation: int):
    """Output cells along one axis of a padded map."""
    return (padded - (kernel - 1) * dilation - 1) // stride + 1


def resolve_padding(x, kernel: Pair, strides: Pair, padding, dilation: Pair):
    """((top, bottom), (left, right)) in cells; numbers, or tensors for sides not yet known."""
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding != "same":
        return sides(padding)
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


def sides(padding) -> tuple[Pair, Pair]:
    """((top, bottom), (left, right)) of a number for all, or of those."""
    if isinstance(padding, int):
        return (padding, padding), (padding, padding)
    (top, bottom), (left, right) = padding
    return (top, bottom), (left, right)


def pair(value) -> Pair:
    """(down, right) of a number for both, or of those."""
    return (value, value) if isinstance(value, int) else tuple(value)
