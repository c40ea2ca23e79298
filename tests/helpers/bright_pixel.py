"""A runtime whose answers are known, for tests of everything around the network."""

import numpy as np

from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.geometry.anchors import generate_anchors
from retinaface_tf.inference.preprocess import bucket_shape
from retinaface_tf.inference.runtimes.runtime import RawOutputs, Runtime


class BrightPixelRuntime(Runtime):
    """Finds a "face" at every anchor of size 32 whose centre pixel is white."""

    name = "test"
    config = RetinaFaceConfig()

    def __init__(self):
        self.shapes = []

    def input_shape(self, height, width):
        return bucket_shape(height, width)

    def __call__(self, images):
        self.shapes.append(images.shape)
        anchors = generate_anchors(self.config.levels, *images.shape[1:3])
        x, y = np.minimum(anchors[:, :2].astype(int), [images.shape[2] - 1, images.shape[1] - 1]).T
        white = (images[:, y, x] == 255).all(axis=-1) & (anchors[:, 2] == 32)
        zeros = np.zeros((len(images), len(anchors), 14), np.float32)
        return RawOutputs(white * np.float32(0.9), zeros[..., :4], zeros[..., :10])


def black_image(height, width, *spots):
    """A black image with white 8x8 cells at (row, column) of the stride-8 map."""
    image = np.zeros((height, width, 3), np.uint8)
    for row, column in spots:
        image[8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 255
    return image
