"""A sparse matrix as a table: each row lists the columns it reads and their weights.

Most rows of a mesh operator read about as many columns (a vertex has six neighbours, more or less),
so short rows are filled up with weight 0 and the product is a few gathers: no dense V x V matrix, no
sparse tensor type, the same on every backend.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from keras import ops

from retinaface_tf.mesh.topology import unique_edges


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


def mesh_laplacian(triangles: np.ndarray, vertex_count: int, normed: bool = False):
    """D - A of the graph in which vertices that share an edge are neighbours.

    Args:
        triangles: int [T, 3].
        vertex_count: V.
        normed: D^-1/2 (D - A) D^-1/2 instead, eigenvalues in [0, 2].

    Returns:
        scipy.sparse csr array [V, V].
    """
    from scipy import sparse

    pairs = unique_edges(triangles)
    rows, columns = np.concatenate([pairs, pairs[:, ::-1]]).T
    adjacency = sparse.csr_array(
        (np.ones(len(rows)), (rows, columns)), shape=(vertex_count, vertex_count)
    )
    return sparse.csgraph.laplacian(adjacency, normed).tocsr()


def rescaled_laplacian(triangles: np.ndarray, vertex_count: int) -> SparseRows:
    """L~ = 2 L / lambda_max - I, eigenvalues in [-1, 1]: what Chebyshev polynomials take.

    Args:
        triangles: int [T, 3].
        vertex_count: V.

    Returns:
        Symmetric rows [V, V].
    """
    from scipy import sparse

    laplacian = mesh_laplacian(triangles, vertex_count, normed=True)
    # A level of a hierarchy may have a dozen vertices, for which the dense solver is the robust one;
    # the bound 2 would squeeze the spectrum into part of [-1, 1].
    if vertex_count <= 200:
        largest = np.linalg.eigvalsh(laplacian.toarray())[-1]
    else:
        start = np.linspace(1, 2, vertex_count)  # fixed, so that every build gives the same numbers
        largest = sparse.linalg.eigsh(
            laplacian, 1, which="LM", return_eigenvectors=False, v0=start
        )[0]
    rescaled = laplacian * (2 / largest) - sparse.eye_array(vertex_count)
    return SparseRows.from_sparse(rescaled, symmetric=True)
