"""Images written to files, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from retinaface_tf.errors import RetinaFaceError
from retinaface_tf.util.files import whole_file


def save_image(path: Path, image: np.ndarray) -> None:
    """Writes uint8 RGB [H, W, 3]; the suffix is the format, PNG where it is none.

    Raises:
        RetinaFaceError: the file cannot be written.
    """
    from PIL import Image

    image_format = Image.registered_extensions().get(path.suffix.lower(), "PNG")
    with whole_file(path, error=RetinaFaceError) as partial:
        Image.fromarray(image).save(partial, image_format, quality=92)
