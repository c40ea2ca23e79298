"""A network's weights as named arrays, and a digest of them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from retinaface_tf.models import RetinaFaceNetwork


def named_arrays(network: RetinaFaceNetwork) -> dict[str, np.ndarray]:
    """A network's weights as little-endian float32 arrays, by their paths in it."""
    import keras
    import numpy as np

    return {
        weight.path: np.asarray(keras.ops.convert_to_numpy(weight), "<f4")
        for weight in network.weights
    }


def arrays_digest(arrays: dict[str, np.ndarray]) -> str:
    """Of all weights' bytes as float32: files' own formats do not notice a flipped bit."""
    import numpy as np

    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(arrays[name], "<f4").tobytes())
    return digest.hexdigest()
