"""The Chebyshev convolution against scipy.sparse in float64, and its gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import sparse

from retinaface_tf.errors import ConfigError
from retinaface_tf.reconstruction.graph_conv import (
    ChebyshevConvolution,
    MeshResampling,
    chebyshev_terms,
)
from retinaface_tf.reconstruction.sparse_rows import (
    SparseRows,
    mesh_laplacian,
    multiply_rows,
    rescaled_laplacian,
)
from tests.helpers.shapes import icosphere, open_bowl


def to_sparse(rows: SparseRows, columns: int):
    lines = np.repeat(np.arange(len(rows.columns)), rows.columns.shape[1])
    entries = (rows.weights.ravel(), (lines, rows.columns.ravel()))
    return sparse.csr_array(sparse.coo_array(entries, shape=(len(rows.columns), columns)))


def test_laplacian_of_a_tetrahedron_without_one_face():
    laplacian = mesh_laplacian(np.array([[0, 1, 2], [0, 2, 3], [0, 3, 1]]), 5).toarray()
    expected = np.zeros((5, 5))
    expected[:4, :4] = 4 * np.eye(4) - 1
    np.testing.assert_array_equal(laplacian, expected)


@pytest.mark.parametrize("shape", [icosphere(1), open_bowl()])
def test_rescaled_laplacian_against_a_plain_loop(shape):
    vertices, triangles = shape
    count = len(vertices)
    joined = np.zeros((count, count))
    for triangle in triangles:
        for i in triangle:
            for j in triangle:
                joined[i, j] = i != j
    degree = joined.sum(1)
    laplacian = np.eye(count) - joined / np.sqrt(degree[:, None] * degree[None])
    values = np.linalg.eigvalsh(laplacian)
    expected = 2 * laplacian / values[-1] - np.eye(count)
    rows = rescaled_laplacian(triangles, count)
    np.testing.assert_allclose(to_sparse(rows, count).toarray(), expected, atol=1e-9)
    np.testing.assert_allclose(np.linalg.eigvalsh(expected)[[0, -1]], (-1, 1), atol=1e-9)


@pytest.mark.parametrize("filters", [5, 2])
@pytest.mark.parametrize("order", [1, 2, 3, 6])
def test_convolution_against_scipy_chebyshev_polynomials(rng, order, filters):
    """T_k by numpy's polynomial coefficients and scipy's matrix powers, not by a recurrence."""
    vertices, triangles = open_bowl()
    rows = rescaled_laplacian(triangles, len(vertices))
    matrix = to_sparse(rows, len(vertices))
    x = rng.normal(size=(2, len(vertices), 3))
    layer = ChebyshevConvolution(filters, rows, order, dtype="float64")
    layer(x)
    kernel, bias = rng.normal(size=(order * 3, filters)), rng.normal(size=filters)
    layer.set_weights([kernel, bias])
    expected = np.zeros((2, len(vertices), filters))
    for k in range(order):
        coefficients = np.polynomial.chebyshev.cheb2poly([0] * k + [1])
        for i in range(2):
            power, term = x[i], 0
            for coefficient in coefficients:
                term = term + coefficient * power
                power = matrix @ power
            expected[i] += term @ kernel[3 * k : 3 * k + 3]
    np.testing.assert_allclose(layer(x), expected + bias, atol=1e-11)


def test_terms_are_bounded_like_chebyshev_polynomials(rng):
    """|T_k(L~) x| <= |x|: a wrongly scaled Laplacian would grow without bound."""
    vertices, triangles = icosphere(2)
    rows = rescaled_laplacian(triangles, len(vertices))
    x = rng.normal(size=(1, len(vertices), 1))
    for term in chebyshev_terms(tf.constant(x), rows, 40):
        assert np.linalg.norm(term) <= np.linalg.norm(x) * (1 + 1e-9)


@pytest.mark.parametrize("symmetric", [True, False])
def test_gradient_of_the_product_is_the_transposed_product(rng, symmetric):
    vertices, triangles = icosphere(1)
    matrix = mesh_laplacian(triangles, len(vertices), normed=True)
    if not symmetric:
        matrix = (matrix @ sparse.diags_array(rng.normal(size=len(vertices)))).tocsr()[:20]
    rows = SparseRows.from_sparse(matrix, symmetric)
    x, upstream = rng.normal(size=(2, len(vertices), 3)), rng.normal(size=(2, matrix.shape[0], 3))
    variable = tf.Variable(x)
    with tf.GradientTape() as tape:
        y = multiply_rows(rows, variable)
        loss = tf.reduce_sum(y * upstream)
    np.testing.assert_allclose(y, np.stack([matrix @ part for part in x]), atol=1e-12)
    expected = np.stack([matrix.T @ part for part in upstream])
    gradient = tf.convert_to_tensor(tape.gradient(loss, variable))
    np.testing.assert_allclose(gradient, expected, atol=1e-12)


def test_layers_come_back_from_a_file(rng, tmp_path):
    vertices, triangles = icosphere(1)
    rows = rescaled_laplacian(triangles, len(vertices))
    mesh = keras.Input((len(vertices), 2))
    x = ChebyshevConvolution(4, rows, 3)(mesh)
    half = SparseRows(np.arange(21, dtype=np.int32)[:, None] * 2, np.ones((21, 1)))
    model = keras.Model(mesh, MeshResampling(half)(x))
    model.save(tmp_path / "mesh.keras")
    again = keras.saving.load_model(tmp_path / "mesh.keras")
    features = rng.normal(size=(1, len(vertices), 2)).astype("float32")
    np.testing.assert_array_equal(model(features), again(features))
    assert again.output_shape == (None, 21, 4)


def test_order_zero_is_refused():
    with pytest.raises(ConfigError, match="order 0"):
        ChebyshevConvolution(4, rescaled_laplacian(icosphere(0)[1], 12), 0)
