"""Convolution on a mesh's graph by Chebyshev polynomials of its Laplacian.

Defferrard et al. 2016, used by the mesh decoder of 1905.00641, section 3.2:
y = sum over k < K of T_k(L~) x theta_k, with T_0 x = x, T_1 x = L~ x and
T_k x = 2 L~ T_{k-1} x - T_{k-2} x. A vertex thus sees K - 1 rings of neighbours.
"""

import keras
import numpy as np
from keras import layers, ops

from retinaface_tf.errors import ConfigError
from retinaface_tf.reconstruction.sparse_rows import SparseRows, multiply_rows


def chebyshev_terms(x, laplacian: SparseRows, order: int) -> list:
    """T_0(L~) x ... T_{order-1}(L~) x.

    Args:
        x: float [B, V, C].
        laplacian: L~ [V, V], its eigenvalues in [-1, 1] (`laplacian.rescaled_laplacian`).
        order: K, the number of terms, at least 1.

    Returns:
        K arrays [B, V, C].
    """
    terms = [x]
    if order > 1:
        terms.append(multiply_rows(laplacian, x))
    while len(terms) < order:
        terms.append(2 * multiply_rows(laplacian, terms[-1]) - terms[-2])
    return terms


def chebyshev_sum(coefficients: list, laplacian: SparseRows):
    """The sum of T_k(L~) a_k over given a_k [B, V, F], by Clenshaw's recurrence.

    The same sum as of `chebyshev_terms` times weights; it applies the Laplacian to the outputs'
    channels instead of the inputs', which is cheaper where those are fewer.
    """
    after, after_next = coefficients[-1], None
    for coefficient in coefficients[-2:0:-1]:
        current = coefficient + 2 * multiply_rows(laplacian, after)
        if after_next is not None:
            current = current - after_next
        after, after_next = current, after
    if len(coefficients) == 1:
        return after
    total = coefficients[0] + multiply_rows(laplacian, after)
    return total if after_next is None else total - after_next


@keras.saving.register_keras_serializable(package="retinaface_tf")
class ChebyshevConvolution(layers.Layer):
    """Graph convolution: K x C_in x C_out weights and a bias.

    Args:
        filters: channels out.
        laplacian: L~ [V, V], symmetric, eigenvalues in [-1, 1].
        order: K, the number of Chebyshev terms.
        kernel_initializer, use_bias: as in `keras.layers.Conv1D`.

    Input [B, V, C], output [B, V, filters].

    Raises:
        ConfigError: the order is below 1.
    """

    def __init__(
        self,
        filters: int,
        laplacian: SparseRows,
        order: int = 6,
        *,
        kernel_initializer="glorot_uniform",
        use_bias: bool = True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if order < 1:
            raise ConfigError(f"Chebyshev order {order} must be at least 1.")
        self.filters = filters
        self.laplacian = _rows(laplacian)
        self.order = order
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.use_bias = use_bias

    def build(self, input_shape):
        # One matrix for all terms, so that a glorot initialiser counts K x C_in inputs.
        self.kernel = self.add_weight(
            shape=(self.order * input_shape[-1], self.filters),
            initializer=self.kernel_initializer,
            name="kernel",
        )
        if self.use_bias:
            self.bias = self.add_weight(shape=(self.filters,), initializer="zeros", name="bias")

    def call(self, x):
        kernel = ops.cast(self.kernel, x.dtype)
        if self.filters < x.shape[-1]:
            parts = ops.split(kernel, self.order, axis=0)
            y = chebyshev_sum([ops.matmul(x, part) for part in parts], self.laplacian)
        else:
            terms = chebyshev_terms(x, self.laplacian, self.order)
            y = ops.matmul(ops.concatenate(terms, axis=-1), kernel)
        return y + ops.cast(self.bias, y.dtype) if self.use_bias else y

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.filters)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "laplacian": _rows_config(self.laplacian),
            "order": self.order,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "use_bias": self.use_bias,
        }


@keras.saving.register_keras_serializable(package="retinaface_tf")
class MeshResampling(layers.Layer):
    """Features of one mesh's vertices as those of another's: a constant sparse product.

    Args:
        rows: [V_out, V_in], such as `hierarchy`'s up-sampling.

    Input [B, V_in, C], output [B, V_out, C].
    """

    def __init__(self, rows: SparseRows, **kwargs):
        super().__init__(**kwargs)
        self.rows = _rows(rows)

    def call(self, x):
        return multiply_rows(self.rows, x)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], len(self.rows.columns), input_shape[-1])

    def get_config(self):
        return {**super().get_config(), "rows": _rows_config(self.rows)}


def _rows(value) -> SparseRows:
    """The matrix itself, or what `get_config` made of it."""
    if isinstance(value, SparseRows):
        return value
    return SparseRows(
        np.array(value["columns"], np.int32),
        np.array(value["weights"], np.float64),
        value["symmetric"],
    )


def _rows_config(rows: SparseRows) -> dict:
    return {
        "columns": rows.columns.tolist(),
        "weights": rows.weights.tolist(),
        "symmetric": rows.symmetric,
    }
