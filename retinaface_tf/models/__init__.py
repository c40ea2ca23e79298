"""The network, as Keras functional models in `keras.ops` only."""

from retinaface_tf.models.retinaface import RetinaFaceNetwork, build_retinaface

__all__ = ["RetinaFaceNetwork", "build_retinaface"]
