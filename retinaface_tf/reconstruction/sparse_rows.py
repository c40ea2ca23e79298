"""A sparse matrix as a table: each row lists the columns it reads and their weights.

Most rows of a mesh operator read about as many columns (a vertex has six neighbours, more or less),
so short rows are filled up with weight 0 and the product is a few gathers: no dense V x V matrix, no
sparse tensor type, the same on every backend.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from keras import ops


class SparseRows(NamedTuple):
    """A constant sparse matrix [R, V].

    Attributes:
        columns: int32 [R, D], which columns each row reads; fillers, at the end, are 0.
        weights: float64 [R, D]; fillers are 0.
        symmetric: the matrix is its own transpose, so the gradient is the product itself.
    """

    columns: np.ndarray
    weights: np.ndarray
    symmetric: bool = False

    @classmethod
    def from_sparse(cls, matrix, symmetric: bool = False) -> SparseRows:
        """The rows of a scipy sparse matrix or array."""
        matrix = matrix.tocsr()
        matrix.sort_indices()
        lengths = np.diff(matrix.indptr)
        width = max(int(lengths.max(initial=0)), 1)
        columns = np.zeros((matrix.shape[0], width), np.int32)
        weights = np.zeros((matrix.shape[0], width))
        filled = np.arange(width) < lengths[:, None]
        columns[filled] = matrix.indices
        weights[filled] = matrix.data
        return cls(columns, weights, symmetric)


def multiply_rows(rows: SparseRows, x):
    """The product of a sparse matrix with each column of features.

    Args:
        rows: the matrix [R, V].
        x: float [B, V, C].

    Returns:
        [B, R, C] of x's type.
    """
    if not rows.symmetric:
        return _product(rows, x)

    def product(x):
        def backward(*args, upstream=None):
            # Gathers where the gradient of a gather would scatter.
            return _product(rows, args[0] if upstream is None else upstream)

        return _product(rows, x), backward

    return ops.custom_gradient(product)(x)


def _product(rows: SparseRows, x):
    used = (rows.weights != 0).sum(axis=1)
    # Slots that few rows use (a vertex with fourteen neighbours) are summed for those rows alone.
    slots = np.arange(rows.columns.shape[1])
    common = max(int((np.mean(used[:, None] > slots, axis=0) >= 0.25).sum()), 1)
    total = _weighted_sum(rows.columns[:, :common], rows.weights[:, :common], x)
    long = np.flatnonzero(used > common)
    if len(long):
        rest = _weighted_sum(rows.columns[long, common:], rows.weights[long, common:], x)
        rest = ops.pad(rest, ((0, 0), (1, 0), (0, 0)))
        place = np.zeros(len(used), np.int32)
        place[long] = np.arange(1, len(long) + 1)
        total = total + ops.take(rest, ops.convert_to_tensor(place), axis=1)
    return total


def _weighted_sum(columns, weights, x):
    # One neighbour at a time: the array [B, R, D, C] of all of them is never made.
    total = 0
    for column, weight in zip(columns.T, weights.T):
        taken = ops.take(x, ops.convert_to_tensor(column, "int32"), axis=1)
        total = total + taken * ops.convert_to_tensor(weight[:, None], x.dtype)
    return total
