"""The network, as Keras functional models in `keras.ops` only."""

from retinaface_tf.util.extras import require

require("train", "keras", for_="The network in Keras")

from retinaface_tf.models.backbones import register_backbone  # noqa: E402
from retinaface_tf.models.retinaface import (  # noqa: E402
    RetinaFaceNetwork,
    add_dense_branch,
    build_retinaface,
)

__all__ = ["RetinaFaceNetwork", "add_dense_branch", "build_retinaface", "register_backbone"]
