"""Weighted sums of 2x2 windows of a map, and their transpose: the memory traffic of interpolation.

Two implementations. `Gathered` is `keras.ops` alone: it copies four vectors of channels for every
sample, then weights and sums them (im2col); it runs on every backend and in every exporter.
`SparseProducts` is TensorFlow's product of a sparse matrix, four numbers a row, with the map: it sums
the four vectors without copying them, in about a quarter of the time on a CPU.
"""

from typing import Literal, Protocol, get_args

import keras
from keras import ops

from retinaface_tf.errors import ConfigError
from retinaface_tf.layers.sampling_grid import side

Sampling = Literal["auto", "gather", "sparse"]


class WindowSums(Protocol):
    """How samples are read from a map whose cells are rows of channels.

    Attributes:
        taps_together: taps whose samples are read at once; None for all of a kernel's row. More is
            faster as long as all of them stay in the cache.
    """

    taps_together: int | None

    def blend(self, rows, cells, steps, weights):
        """K weighted sums of each sample's four cells.

        Args:
            rows: [P, C], any float type.
            cells: int32 [N], row of the first cell.
            steps: int32 [4], from there to each of the four.
            weights: [N, K, 4] in float32 or float64.

        Returns:
            [N, K, C] of the rows' type.
        """

    def spread(self, values, cells, steps, weights, count):
        """The transpose of `blend` for K = 1: adds each sample's value to its four cells.

        Args:
            values: [N, C].
            cells, steps: as in `blend`.
            weights: [N, 4].
            count: P.

        Returns:
            [P, C] of the values' type.
        """


class Gathered:
    """In `keras.ops`: for every backend, compiler and exporter."""

    taps_together = 1

    def blend(self, rows, cells, steps, weights):
        return ops.matmul(ops.cast(weights, rows.dtype), _take(rows, cells[:, None] + steps))

    def spread(self, values, cells, steps, weights, count):
        weights = ops.cast(weights, values.dtype)
        shares = weights[..., None] * values[..., None, :]
        shares = ops.reshape(shares, (-1, values.shape[-1]))
        corners = ops.reshape(cells[:, None] + steps, (-1,))
        return ops.segment_sum(shares, corners, num_segments=count)


class SparseProducts:
    """In TensorFlow's operators on compressed sparse rows, which XLA and exporters do not know."""

    taps_together = None

    def blend(self, rows, cells, steps, weights):
        import tensorflow as tf

        sums = weights.shape[1]
        cells = ops.repeat(cells, sums) if sums > 1 else cells
        matrix = self._matrix(cells, steps, weights, side(rows, 0))
        # There is no such product of half precision.
        dense = ops.cast(rows, weights.dtype)
        product = tf.raw_ops.SparseMatrixMatMul(a=matrix, b=dense)
        return ops.cast(ops.reshape(product, (-1, sums, rows.shape[-1])), rows.dtype)

    def spread(self, values, cells, steps, weights, count):
        import tensorflow as tf

        matrix = self._matrix(cells, steps, weights, count)
        dense = ops.cast(values, weights.dtype)
        product = tf.raw_ops.SparseMatrixMatMul(a=matrix, b=dense, transpose_a=True)
        return ops.cast(ops.reshape(product, (-1, values.shape[-1])), values.dtype)

    def _matrix(self, cells, steps, weights, count):
        """[N, count] with each row's four weights at its four cells."""
        import tensorflow as tf

        # TensorFlow takes the weights' indices as pairs of int64, twice the bytes of anything else
        # here. Stacked and then transposed they take half the time of a stack along the last axis.
        cells, steps = tf.cast(cells, tf.int64), tf.cast(steps, tf.int64)
        size = tf.size(cells, tf.int64)
        row = tf.range(size)
        pairs = tf.stack([part for i in range(4) for part in (row, cells + steps[i])])
        return tf.raw_ops.SparseTensorToCSRSparseMatrix(
            indices=tf.reshape(tf.transpose(pairs), (-1, 2)),
            values=tf.reshape(weights, (-1,)),
            dense_shape=tf.stack([size, tf.cast(count, tf.int64)]),
        )


def _take(rows, indices):
    """`ops.take`, which on TensorFlow first looks for negative indices: there are none."""
    if keras.backend.backend() != "tensorflow":
        return ops.take(rows, indices, axis=0)
    import tensorflow as tf

    return tf.gather(rows, indices)


def window_sums(sampling: Sampling) -> WindowSums:
    """The implementation of that name; for "auto" the fastest that the machine runs.

    Raises:
        ConfigError: there is no such name, or the backend has no such operators.
    """
    if sampling not in get_args(Sampling):
        raise ConfigError(f"sampling={sampling!r} must be one of {', '.join(get_args(Sampling))}.")
    backend = keras.backend.backend()
    if sampling == "sparse" and backend != "tensorflow":
        raise ConfigError(f"sampling='sparse' needs the TensorFlow backend, not {backend}.")
    return SparseProducts() if is_sparse(sampling) else Gathered()


def is_sparse(sampling: Sampling) -> bool:
    """Whether that name means sparse products on this machine: on TensorFlow without a GPU."""
    if sampling != "auto" or keras.backend.backend() != "tensorflow":
        return sampling == "sparse"
    import tensorflow as tf

    return not tf.config.list_physical_devices("GPU")
