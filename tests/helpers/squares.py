"""A runtime that finds white squares, unsure of small ones."""

import cv2
import numpy as np

from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.geometry.anchors import generate_anchors
from retinaface_tf.inference.preprocess import bucket_shape
from retinaface_tf.inference.runtimes.runtime import RawOutputs, Runtime


class SquaresRuntime(Runtime):
    """Finds white squares: not below `blind` pixels, unsure (0.3) below 14, then sure (0.9)."""

    name = "test"
    config = RetinaFaceConfig()

    def __init__(self, blind=6):
        self.shapes, self.blind = [], blind

    def input_shape(self, height, width):
        return bucket_shape(height, width)

    def __call__(self, images):
        self.shapes.append(images.shape[:3])
        anchors = generate_anchors(self.config.levels, *images.shape[1:3])
        free = anchors[:, 2] == 32
        scores = np.zeros((len(images), len(anchors)), np.float32)
        deltas = np.zeros((*scores.shape, 14), np.float32)
        for i, image in enumerate(images):
            stats = cv2.connectedComponentsWithStats((image[..., 0] > 200).astype(np.uint8))[2]
            for x, y, width, height, _ in stats[1:]:
                side = max(width, height)
                if self.blind <= side <= 100:
                    center = np.array([x + width / 2, y + height / 2])
                    near = np.abs(anchors[:, :2] - center).sum(axis=1)
                    best = np.where(free & (scores[i] == 0), near, np.inf).argmin()
                    scores[i, best] = 0.3 if side < 14 else 0.9
                    deltas[i, best, :2] = (center - anchors[best, :2]) / anchors[best, 2] / 0.1
                    deltas[i, best, 2:4] = (
                        np.log(np.array([width, height]) / anchors[best, 2]) / 0.2
                    )
        return RawOutputs(scores, deltas[..., :4], deltas[..., 4:])


def squares(height, width, *places):
    """White squares at (x, y, side) on black."""
    image = np.zeros((height, width, 3), np.uint8)
    for x, y, side in places:
        image[y : y + side, x : x + side] = 255
    return image
