"""The graph of a triangle mesh and its rescaled Laplacian (numpy and scipy, at build time)."""

from __future__ import annotations

import numpy as np

from retinaface_tf.reconstruction.sparse_rows import SparseRows


def mesh_adjacency(triangles: np.ndarray, vertex_count: int):
    """Which vertices share an edge.

    Args:
        triangles: int [T, 3].
        vertex_count: V.

    Returns:
        scipy.sparse csr array [V, V] of zeros and ones, symmetric, zero diagonal.
    """
    from scipy import sparse

    pairs = triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    pairs = np.concatenate([pairs, pairs[:, ::-1]])
    adjacency = sparse.csr_array(
        (np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(vertex_count, vertex_count)
    )
    adjacency.sum_duplicates()
    adjacency.data[:] = 1
    return adjacency


def normalized_laplacian(triangles: np.ndarray, vertex_count: int):
    """L = I - D^-1/2 A D^-1/2, eigenvalues in [0, 2]: scipy.sparse csr array [V, V]."""
    from scipy import sparse

    adjacency = mesh_adjacency(triangles, vertex_count)
    degree = np.asarray(adjacency.sum(axis=1)).ravel()
    inverse_root = sparse.diags_array(1 / np.sqrt(np.maximum(degree, 1)))
    return (sparse.eye_array(vertex_count) - inverse_root @ adjacency @ inverse_root).tocsr()


def rescaled_laplacian(triangles: np.ndarray, vertex_count: int) -> SparseRows:
    """L~ = 2 L / lambda_max - I, eigenvalues in [-1, 1]: what Chebyshev polynomials take.

    Args:
        triangles: int [T, 3].
        vertex_count: V.

    Returns:
        Symmetric rows [V, V].
    """
    from scipy import sparse

    laplacian = normalized_laplacian(triangles, vertex_count)
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
