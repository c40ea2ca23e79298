"""The dense head inside an exported file that ends in raw heads.

Its input, the faces that count, is known only after decoding. So the file gives feature maps, and
carries the head's weights as one block of bytes for whoever decodes: a name, the length, and an
`.npz` of float32 arrays, in base64.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np

from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.errors import WeightsError

ENTRY = "retinaface_tf_dense"
_START = b"retinaface_tf_dense_npz:"
_DIGITS = 10


def pack_dense_weights(weights: dict[str, np.ndarray]) -> str:
    """The block, of float32 arrays by name."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **weights)
    text = base64.b64encode(buffer.getvalue()).decode()
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
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            return {key: file[key].astype(np.float32) for key in file.files}
    except Exception as error:  # of base64, zipfile and numpy
        raise WeightsError(
            f"{name} has a dense branch but no weights for it ({type(error).__name__}); export it again."
        ) from None
