"""The network, as Keras functional models in `keras.ops` only."""

from retinaface_tf.models.retinaface import RetinaFaceNetwork, add_dense_branch, build_retinaface

__all__ = ["RetinaFaceNetwork", "add_dense_branch", "build_retinaface"]
