"""The dense head inside an exported file that ends in raw heads.

Its input, the faces that count, is known only after decoding. So the file gives feature maps, and
carries the head's weights as one block of bytes for whoever decodes: a name, the length, and an
`.npz` of float32 arrays, in base64.
"""

import base64
from pathlib import Path

import numpy as np

from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.errors import WeightsError
from retinaface_tf.util.npz import npz_bytes, read_npz

ENTRY = "retinaface_tf_dense"
_START = b"retinaface_tf_dense_npz:"
_DIGITS = 10


def pack_dense_weights(weights: dict[str, np.ndarray]) -> str:
    """The block, of float32 arrays by name."""
    text = base64.b64encode(npz_bytes(weights)).decode()
    return f"{_START.decode()}{len(text):0{_DIGITS}d}:{text}"


def read_dense_weights(
    content: bytes, config: RetinaFaceConfig, name: str | Path
) -> dict[str, np.ndarray] | None:
    """The weights in a file's bytes, which were checked as a whole before.

    Returns:
        float32 arrays by name; None for a network without a dense branch.

    Raises:
        WeightsError: the network has a dense branch, and the file no weights for it.
    """
    if config.dense is None:
        return None
    start = content.find(_START) + len(_START)
    try:
        length = int(content[start : start + _DIGITS])
        start += _DIGITS + 1
        data = base64.b64decode(content[start : start + length], validate=True)
        arrays, _ = read_npz(data, key=None)
    except (ValueError, WeightsError):
        raise WeightsError(
            f"{name} has a dense branch but no weights for it; export it again."
        ) from None
    return {key: values.astype(np.float32) for key, values in arrays.items()}
