"""Which array library a geometry function computes with: that of its arguments."""

import numpy as np


def array_namespace(*arrays):
    """`numpy` when every argument is a numpy array, a number or a list; else `keras.ops`.

    Keras is imported only in the second case, so numpy inference never loads a backend.
    """
    if all(isinstance(a, np.ndarray | np.generic | int | float | list | tuple) for a in arrays):
        return np
    from keras import ops

    return ops


def cast(xp, values, dtype):
    """Numbers or arrays as another type, in the library `xp` that `array_namespace` gave."""
    return np.asarray(values).astype(dtype, copy=False) if xp is np else xp.cast(values, dtype)
