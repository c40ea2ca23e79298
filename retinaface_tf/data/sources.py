"""Where training images come from; each source streams an epoch as a pure function of a seed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from retinaface_tf.data.readers.annotation import AnnotatedImage, common_vertices
from retinaface_tf.errors import DataError

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True, kw_only=True)
class EpochSlice:
    """The part of one epoch that one worker has to read.

    An epoch is a shuffled sequence of images cut into global batches.

    Attributes:
        seed, epoch: what the order is a function of.
        steps: global batches in the epoch.
        first_step: batches before this one are left out (they were done before a restart).
        batch: images in a global batch.
        begin, end: this worker's places within each global batch.
    """

    seed: int
    epoch: int
    steps: int
    batch: int
    first_step: int = 0
    begin: int = 0
    end: int

    def positions(self) -> np.ndarray:
        """int64 [steps left * (end - begin)]: places in the epoch's sequence, in order."""
        steps = np.arange(self.first_step, self.steps, dtype=np.int64)
        places = np.arange(self.begin, self.end, dtype=np.int64)
        return (steps[:, None] * self.batch + places[None, :]).ravel()


class ImageSource(Protocol):
    """A set of images with labels.

    Attributes:
        vertices: of each face's mesh; 0 where no face has one.
    """

    count: int
    vertices: int

    def name(self, image_id: int) -> str:
        """What to call an image in a message."""
        ...

    def digest(self) -> str:
        """Twelve hexadecimal digits that tell sets apart, wherever their files lie."""
        ...

    def examples(self, part: EpochSlice) -> tf.data.Dataset:
        """Raw examples of `part`, in its order, the sequence starting again when it ends.

        Each is a dict: "encoded" string, "boxes" float32 [F, 4], "landmarks" [F, 5, 2], "ignored"
        bool [F], "scores" float32 [F] (NaN for a face without one), "vertices" float32 [F, V, 3] (NaN
        for a face without a mesh), "image_id" int64, "position" int64 (the place in the epoch's
        sequence).
        """
        ...


def shuffled_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """int64 [count]: a permutation that depends on nothing but the arguments."""
    return np.random.default_rng((seed, epoch)).permutation(count)


class LabelledSource:
    """Images whose labels are in memory; the pixels are in files, or in memory too.

    Args:
        images: images and labels, as a reader or `data.check` gives them.
        encoded: the files' bytes, one an image; None reads `AnnotatedImage.path`.

    Raises:
        DataError: there is no image, or faces have meshes of different topologies.
    """

    def __init__(self, images: Sequence[AnnotatedImage], encoded: Sequence[bytes] | None = None):
        if not images:
            raise DataError("The training set has no usable image; see `retinaface-tf data check`.")
        self.count = len(images)
        self._paths = [str(image.path) for image in images]
        self._starts = np.cumsum([0] + [len(image.boxes) for image in images])
        self._boxes = np.concatenate([image.boxes for image in images])
        self._landmarks = np.concatenate([image.landmarks for image in images])
        self._ignored = np.concatenate([image.ignored for image in images])
        self._scores = np.concatenate([image.scores for image in images])
        self._encoded = encoded
        self.vertices = common_vertices(images)
        # Most faces of a large set have no mesh: only those that have one are kept, behind a first
        # row that stands for none.
        known = np.concatenate([image.has_mesh for image in images])
        none = np.full((1, self.vertices, 3), np.nan, np.float32)
        meshes = [image.vertices[image.has_mesh] for image in images if image.num_vertices]
        self._meshes = np.concatenate([none, *meshes])
        self._mesh_rows = np.where(known, np.cumsum(known), 0)

    def name(self, image_id: int) -> str:
        return self._paths[image_id]

    def digest(self) -> str:
        digest = hashlib.sha256()
        for path in map(Path, self._paths):
            digest.update(os.fsencode(f"{path.parent.name}/{path.name}\n"))
        for values in (self._starts, self._boxes, self._landmarks, self._ignored):
            digest.update(np.ascontiguousarray(values).tobytes())
        if np.isfinite(self._scores).any():
            digest.update(self._scores.tobytes())
        for encoded in self._encoded or ():
            digest.update(hashlib.sha256(encoded).digest())
        return digest.hexdigest()[:12]

    def examples(self, part: EpochSlice) -> tf.data.Dataset:
        import tensorflow as tf

        positions = part.positions()
        order = shuffled_order(self.count, part.seed, part.epoch)
        # The CPU holds the tables also where a GPU is the default device.
        with tf.device("CPU"):
            dataset = tf.data.Dataset.from_tensor_slices((order[positions % self.count], positions))
            starts = tf.constant(self._starts)
            arrays = (self._boxes, self._landmarks, self._ignored, self._scores, self._mesh_rows)
            faces = [tf.constant(v) for v in arrays]
            meshes = tf.constant(self._meshes)
            names = [os.fsencode(path) for path in self._paths]
            pixels = tf.constant(names if self._encoded is None else list(self._encoded))

        def load(image_id, position):
            begin, end = starts[image_id], starts[image_id + 1]
            boxes, landmarks, ignored, scores, rows = (values[begin:end] for values in faces)
            encoded = pixels[image_id]
            return {
                "encoded": tf.io.read_file(encoded) if self._encoded is None else encoded,
                "boxes": boxes,
                "landmarks": landmarks,
                "ignored": ignored,
                "scores": scores,
                "vertices": tf.gather(meshes, rows),
                "image_id": image_id,
                "position": position,
            }

        return dataset.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
