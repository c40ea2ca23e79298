"""Weighted sums of 2x2 windows of a map, and their transpose: the memory traffic of interpolation.

Two implementations. `Gathered` is `keras.ops` alone: it copies four vectors of channels for every
sample, then weights and sums them (im2col); it runs on every backend and in every exporter.
`SparseProducts` is TensorFlow's product of a sparse matrix, four numbers a row, with the map: it sums
the four vectors without copying them, in about a quarter of the time on a CPU.
"""

from functools import cached_property
from typing import ClassVar, Literal, Protocol, get_args

import keras
from keras import ops

from retinaface_tf.errors import ConfigError
from retinaface_tf.layers.sampling_grid import side

Sampling = Literal["auto", "gather", "sparse"]


class WindowSums(Protocol):
    """Samples of a map: where their windows are. Made once, it is used with several weights.

    Args:
        rows: [P, C], any float type.
        cells: int32 [N], row of the first cell of each sample's window.
        steps: int32 [4], from there to each of the four.

    Attributes:
        taps_together: taps whose samples are read at once; None for all of a kernel's row. More is
            faster as long as all of them stay in the cache.
    """

    taps_together: ClassVar[int | None]

    def __init__(self, rows, cells, steps): ...

    def blend(self, weights):
        """Weighted sums [N, C], of the rows' type, of each sample's four cells; weights [N, 4] in float32 or float64."""

    def spread(self, values, weights):
        """The transpose of `blend`: adds each sample's value, [N, C], to its four cells: [P, C] of the values' type."""


class Gathered:
    """In `keras.ops`: for every backend, compiler and exporter."""

    taps_together: ClassVar[int | None] = 1

    def __init__(self, rows, cells, steps):
        self._rows, self._corners = rows, cells[:, None] + steps

    @cached_property
    def _vectors(self):
        return _take(self._rows, self._corners)

    def blend(self, weights):
        weights = ops.reshape(ops.cast(weights, self._rows.dtype), (-1, 1, 4))
        return ops.reshape(ops.matmul(weights, self._vectors), (-1, self._rows.shape[-1]))

    def spread(self, values, weights):
        weights = ops.cast(weights, values.dtype)
        shares = weights[..., None] * values[..., None, :]
        shares = ops.reshape(shares, (-1, values.shape[-1]))
        corners = ops.reshape(self._corners, (-1,))
        return ops.segment_sum(shares, corners, num_segments=side(self._rows, 0))


class SparseProducts:
    """In TensorFlow's operators on compressed sparse rows, which XLA and exporters do not know."""

    taps_together: ClassVar[int | None] = None

    def __init__(self, rows, cells, steps):
        import tensorflow as tf

        # TensorFlow takes the weights' indices as pairs of int64, twice the bytes of anything else
        # here. Stacked and then transposed they take half the time of a stack along the last axis.
        cells, steps = tf.cast(cells, tf.int64), tf.cast(steps, tf.int64)
        size = tf.size(cells, tf.int64)
        row = tf.range(size)
        pairs = tf.stack([part for i in range(4) for part in (row, cells + steps[i])])
        self._rows, self._pairs = rows, tf.reshape(tf.transpose(pairs), (-1, 2))
        self._shape = tf.stack([size, tf.cast(side(rows, 0), tf.int64)])

    def blend(self, weights):
        return self._product(weights, self._rows)

    def spread(self, values, weights):
        return self._product(weights, values, transpose_a=True)

    def _product(self, weights, dense, **options):
        """Of [N, P] with each row's four weights at its four cells."""
        import tensorflow as tf

        matrix = tf.raw_ops.SparseTensorToCSRSparseMatrix(
            indices=self._pairs, values=tf.reshape(weights, (-1,)), dense_shape=self._shape
        )
        # There is no such product of half precision.
        product = tf.raw_ops.SparseMatrixMatMul(
            a=matrix, b=ops.cast(dense, weights.dtype), **options
        )
        return ops.cast(ops.reshape(product, (-1, dense.shape[-1])), dense.dtype)


def _take(rows, indices):
    """`ops.take`, which on TensorFlow first looks for negative indices: there are none."""
    if keras.backend.backend() != "tensorflow":
        return ops.take(rows, indices, axis=0)
    import tensorflow as tf

    return tf.gather(rows, indices)


def window_sums(sampling: Sampling) -> type[WindowSums]:
    """The implementation of that name; for "auto" the fastest that the machine runs.

    Raises:
        ConfigError: there is no such name, or the backend has no such operators.
    """
    if sampling not in get_args(Sampling):
        raise ConfigError(f"sampling={sampling!r} must be one of {', '.join(get_args(Sampling))}.")
    backend = keras.backend.backend()
    if sampling == "sparse" and backend != "tensorflow":
        raise ConfigError(f"sampling='sparse' needs the TensorFlow backend, not {backend}.")
    return SparseProducts if is_sparse(sampling) else Gathered


def is_sparse(sampling: Sampling) -> bool:
    """Whether that name means sparse products on this machine: on TensorFlow without a GPU."""
    if sampling != "auto" or keras.backend.backend() != "tensorflow":
        return sampling == "sparse"
    import tensorflow as tf

    return not tf.config.list_physical_devices("GPU")
