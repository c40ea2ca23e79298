"""Where the taps of a deformable kernel read a map: the regular grid plus offsets, as rows and weights."""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

# Rows and columns of zeros around the map: a 2x2 window outside the map still has a place.
BORDER = 2
# Offsets beyond this many cells are outside every map; larger ones would not fit an int32.
_FAR = 1e6

Pair = tuple[int, int]


class Grid(NamedTuple):
    """The regular part.

    Attributes:
        kernel: (rows, columns) of taps, T in all.
        strides, dilation: cells between outputs and between taps, down and right.
        origin: cells of padding above and to the left.
        output: rows and columns of the output.
    """

    kernel: Pair
    strides: Pair
    dilation: Pair
    origin: Pair
    output: tuple[Any, Any]


class Samples(NamedTuple):
    """What to read, for N = B * Ho * Wo output cells, T taps and D deformable groups.

    Attributes:
        rows: [B * Hp * Wp * D, C / D], the padded map.
        cells: int32 [N, T, D], row of the first cell of each sample's 2x2 window.
        steps: int32 [4], from there to each of the four, row by row.
        fraction_y, fraction_x: [N, T, D], how far the sample lies below and right of the first.
        mask: [N, T, D] factor of the sample, or None for 1.
    """

    rows: Any
    cells: Any
    steps: Any
    fraction_y: Any
    fraction_x: Any
    mask: Any | None


def take_samples(grid: Grid, x, offsets, mask) -> Samples:
    """Args: x [B, H, W, C]; offsets [B, Ho, Wo, D * T * 2] and mask [B, Ho, Wo, D * T] as in
    `deformable_conv2d`."""
    kh, kw = grid.kernel
    taps = kh * kw
    groups = offsets.shape[-1] // (2 * taps)
    batch, height, width = side(x, 0), side(x, 1), side(x, 2)
    padded_height, padded_width = height + 2 * BORDER, width + 2 * BORDER

    offsets = ops.cast(offsets, _coordinate_type(offsets.dtype))
    offsets = ops.clip(offsets, -_FAR, _FAR)
    # Split in pairs: slices of every second number take four times as long.
    pairs = ops.split(ops.reshape(offsets, (-1, 2)), 2, axis=-1)
    offset_y, offset_x = (
        _taps_first(ops.reshape(part, (-1, *grid.output, taps * groups)), taps, grid.output)
        for part in pairs
    )
    whole_y, whole_x = ops.floor(offset_y), ops.floor(offset_x)
    # The regular grid is added as integers: no digit of the fraction is lost.
    tap = np.arange(taps * groups, dtype=np.int32) // groups
    y = ops.cast(whole_y, "int32") + _positions(grid, 0, tap // kw)[:, None, :]
    x_ = ops.cast(whole_x, "int32") + _positions(grid, 1, tap % kw)
    # Clamped, a window off the map lies on zeros alone. Also for NaN, whatever it casts to.
    # Before the border is added: from 0 to 6, TFLite's converter takes integers for a ReLU6.
    y = ops.clip(y, -BORDER, height) + BORDER
    x_ = ops.clip(x_, -BORDER, width) + BORDER
    if not isinstance(batch, int) or batch > 1:
        y = y + ops.reshape(ops.arange(batch, dtype="int32"), (-1, 1, 1, 1)) * padded_height
    cells = y * padded_width + x_
    cells = ops.reshape(cells, (-1, taps, groups))
    steps = _corner_steps(padded_width)
    if groups > 1:
        cells = cells * groups + ops.arange(groups, dtype="int32")
        steps = steps * groups

    rows = ops.pad(x, ((0, 0), (BORDER, BORDER), (BORDER, BORDER), (0, 0)))
    shape = (-1, taps, groups)
    if mask is not None:
        mask = ops.reshape(_taps_first(mask, taps, grid.output), shape)
        mask = ops.cast(mask, offsets.dtype)
    return Samples(
        rows=ops.reshape(rows, (-1, x.shape[-1] // groups)),
        cells=ops.cast(cells, "int32"),
        steps=ops.cast(steps, "int32"),
        fraction_y=ops.reshape(offset_y - whole_y, shape),
        fraction_x=ops.reshape(offset_x - whole_x, shape),
        mask=mask,
    )


def bilinear(fy, fx, factor=None):
    """Weights [..., 4] of a 2x2 window, row by row, times a factor [...] if there is one."""
    bottom = fy if factor is None else factor * fy
    top = (1 if factor is None else factor) - bottom
    # A factor costs two products here, and four times as much when it is left for the end.
    right_of_top, right_of_bottom = top * fx, bottom * fx
    return ops.stack(
        [top - right_of_top, right_of_top, bottom - right_of_bottom, right_of_bottom], axis=-1
    )


def slopes(fy, fx):
    """The derivatives of the weights [..., 4] along y and along x."""
    top, left = 1 - fy, 1 - fx
    along_y = ops.stack([-left, -fx, left, fx], axis=-1)
    return along_y, ops.stack([-top, top, -fy, fy], axis=-1)


def _positions(grid: Grid, axis: int, tap: np.ndarray):
    """int32 [cells of the output along that axis, len(tap)] on the map, which starts at 0."""
    arange = np.arange if isinstance(grid.output[axis], int) else ops.arange
    start = arange(grid.output[axis], dtype="int32") * grid.strides[axis]
    return start[:, None] + (tap * grid.dilation[axis] - grid.origin[axis])


def _taps_first(values, taps: int, output):
    """[B, Ho, Wo, D * T] -> [B, Ho, Wo, T * D]."""
    groups = values.shape[-1] // taps
    if groups == 1:
        return values
    swapped = ops.transpose(ops.reshape(values, (-1, groups, taps)), (0, 2, 1))
    return ops.reshape(swapped, (-1, *output, taps * groups))


def _corner_steps(padded_width):
    steps = [0, 1, padded_width, padded_width + 1]
    if isinstance(padded_width, int):
        return ops.convert_to_tensor(steps, dtype="int32")
    return ops.stack([ops.cast(step, "int32") for step in steps])


def _coordinate_type(dtype) -> str:
    dtype = keras.backend.standardize_dtype(dtype)
    return dtype if dtype == "float64" else "float32"


def side(x, axis: int):
    """A dimension: a number where it is known, else a tensor."""
    return x.shape[axis] if x.shape[axis] is not None else ops.shape(x)[axis]
