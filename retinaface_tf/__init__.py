"""RetinaFace face detection and localisation on Keras 3.

Names load on first use: importing the package imports neither TensorFlow nor Keras.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_EXPORTS = {
    "RetinaFace": "retinaface_tf.inference.detector",
    "Face": "retinaface_tf.faces.faces",
    "Faces": "retinaface_tf.faces.faces",
    "build_retinaface": "retinaface_tf.models",
    "get_preset": "retinaface_tf.presets",
    "list_presets": "retinaface_tf.presets",
    "load_image": "retinaface_tf.images.read",
    "register_backbone": "retinaface_tf.models",
    "register_loss": "retinaface_tf.losses.own",
    "register_reader": "retinaface_tf.data.readers.registry",
}
__all__ = [
    "Face",
    "Faces",
    "RetinaFace",
    "__version__",
    "build_retinaface",
    "get_preset",
    "list_presets",
    "load_image",
    "register_backbone",
    "register_loss",
    "register_reader",
]

if TYPE_CHECKING:
    from retinaface_tf.data.readers.registry import register_reader
    from retinaface_tf.faces.faces import Face, Faces
    from retinaface_tf.images.read import load_image
    from retinaface_tf.inference.detector import RetinaFace
    from retinaface_tf.losses.own import register_loss
    from retinaface_tf.models import build_retinaface, register_backbone
    from retinaface_tf.presets import get_preset, list_presets
else:  # a type checker that saw this would take any name for one of the package's

    def __getattr__(name: str) -> Any:
        if name not in _EXPORTS:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    """The names that can be had here: `help` and completion ask for each of them."""
    from importlib.util import find_spec

    keras = find_spec("keras") is not None
    return [name for name in __all__ if keras or _EXPORTS.get(name) != "retinaface_tf.models"]
