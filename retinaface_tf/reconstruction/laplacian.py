"""The graph of a triangle mesh and its rescaled Laplacian (numpy and scipy, at build time)."""

from __future__ import annotations

import numpy as np

from retinaface_tf.mesh.topology import unique_edges
from retinaface_tf.reconstruction.sparse_rows import SparseRows


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
