"""What a network finds in held-out images while it is trained."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from retinaface_tf.evaluation.average_precision import (
    Curve,
    match_detections,
    precision_recall_curve,
)
from retinaface_tf.faces.faces import Faces
from retinaface_tf.inference.detector import RetinaFace
from retinaface_tf.inference.preprocess import bucket_shape
from retinaface_tf.inference.runtimes.runtime import RawOutputs, Runtime
from retinaface_tf.models import RetinaFaceNetwork
from retinaface_tf.models.read_heads import raw_heads
from retinaface_tf.training.datasets import ValidationSet

# Low enough for the whole precision-recall curve, high enough to keep suppression cheap.
SCORE_THRESHOLD = 0.02
MAX_FACES = 750


class LiveRuntime(Runtime):
    """A network that is still learning, as a runtime: every call uses the weights of the moment."""

    name = "keras"

    def __init__(self, network: RetinaFaceNetwork):
        # Boxes and points are what is evaluated.
        self.config = dataclasses.replace(network.config, dense=None)

        heads = raw_heads(network)

        @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8)])
        def forward(images):
            return tuple(heads(images).values())[: len(RawOutputs._fields)]

        self._forward = forward

    def input_shape(self, height: int, width: int) -> tuple[int, int]:
        """One of few padded shapes, so that images share batches."""
        return bucket_shape(height, width, self.config.max_stride)

    def __call__(self, images: np.ndarray) -> RawOutputs:
        return RawOutputs(*(keras.ops.convert_to_numpy(v) for v in self._forward(images)))


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What was found.

    Attributes:
        average_precision: at IoU 0.5 over all faces that are not ignored; NaN without faces.
        faces: the detections of each image, score 0.02 and above.
    """

    average_precision: float
    curve: Curve
    faces: list[Faces]


class Evaluator:
    """Finds the faces of a validation set with a network that is being trained.

    Args:
        size: short edge at which they are searched, None for their own size.
    """

    def __init__(self, network: RetinaFaceNetwork, validation: ValidationSet, size: int | None):
        self.validation = validation
        self._detector = RetinaFace(
            LiveRuntime(network),
            threshold=SCORE_THRESHOLD,
            max_faces=MAX_FACES,
            size=size or "original",
        )

    def __call__(self, progress=lambda done: None) -> Evaluation:
        """The network's average precision and detections now."""
        found = []
        for faces in self._detector.stream(self.validation.pixels(), batch_size=8):
            if isinstance(faces, Exception):
                raise faces
            found.append(faces)
            progress(1)
        images = self.validation.images
        matches = match_detections([(f.boxes, f.scores) for f in found], [i.boxes for i in images])
        ignored = np.concatenate([np.zeros(0, bool), *[i.ignored for i in images]])
        curve = precision_recall_curve(matches, ignored)
        return Evaluation(curve.average_precision, curve, found)

    def image(self, index: int) -> np.ndarray:
        """uint8 RGB [H, W, 3] of a validation image."""
        from retinaface_tf.images.read import read_image

        source = self.validation.pixels()[index]
        return read_image(str(source) if isinstance(source, Path) else source)
