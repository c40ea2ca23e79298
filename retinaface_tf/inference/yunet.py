"""YuNet through OpenCV's `FaceDetectorYN`, as a detection backend."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from retinaface_tf.config import DetectionSettings
from retinaface_tf.errors import ImageError, WeightsError
from retinaface_tf.faces.faces import Faces
from retinaface_tf.geometry.boxes import clip_boxes
from retinaface_tf.images.read import ImageSource
from retinaface_tf.inference.preprocess import Prepared, read_and_prepare
from retinaface_tf.util.files import is_file
from retinaface_tf.util.per_process import PerProcess

if TYPE_CHECKING:
    import cv2

# Candidates that OpenCV keeps before suppression.
_CANDIDATES = 5000


class YuNetBackend(PerProcess):
    """`RetinaFace(YuNetBackend(path))` is used like any other detector.

    May be called from several threads (it answers one at a time), pickled, copied and used after a
    fork: see `PerProcess`.

    Args:
        path: the ONNX file, such as OpenCV Zoo's `face_detection_yunet`, which is not in this package.

    Raises:
        WeightsError: the file is missing, or OpenCV cannot read it.
    """

    name = "yunet"
    config = None
    _own = ("_lock", "_detector")

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self._forget()
        self._open()

    def _forget(self) -> None:
        # OpenCV's detector is set up for each image, so one thread has it at a time.
        self._lock = threading.Lock()
        self._detector: cv2.FaceDetectorYN | None = None

    def _open(self) -> cv2.FaceDetectorYN:
        if self._detector is None:
            import cv2

            if not is_file(self.path):
                raise WeightsError(f"There is no YuNet file {self.path}; give its ONNX file.")
            try:
                self._detector = cv2.FaceDetectorYN.create(str(self.path), "", (320, 320))
            except cv2.error as error:
                raise WeightsError(
                    f"OpenCV cannot read {self.path} as YuNet: {error.err}."
                ) from None
        return self._detector

    def prepare(self, source: ImageSource, settings: DetectionSettings) -> Prepared | ImageError:
        """The image's pixels at the size searched."""
        return read_and_prepare(source, settings.size)

    def detect(
        self, prepared: list[Any], batch_size: int, settings: DetectionSettings
    ) -> list[Faces | ImageError]:
        """One image at a time: OpenCV takes no batch."""
        return [
            entry if isinstance(entry, ImageError) else self._detect(entry, settings)
            for entry in prepared
        ]

    def _detect(self, prepared: Prepared, settings: DetectionSettings) -> Faces:
        height, width = prepared.pixels.shape[:2]
        with self._lock:
            detector = self._open()
            detector.setInputSize((width, height))
            detector.setScoreThreshold(float(settings.threshold))
            detector.setNMSThreshold(float(settings.iou))
            detector.setTopK(_CANDIDATES)
            # OpenCV's order of colours is BGR.
            rows = detector.detect(np.ascontiguousarray(prepared.pixels[..., ::-1]))[1]
        if rows is None:
            return Faces.empty(prepared.original_size)
        rows = rows[np.argsort(-rows[:, 14], kind="stable")][: settings.max_faces]
        scale = np.asarray(prepared.scale, np.float32)
        boxes = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], axis=1)
        boxes = clip_boxes(boxes / np.tile(scale, 2), *prepared.original_size)
        # Its points are named from the person's side: right eye first, the image's left one.
        return Faces(
            boxes=boxes.astype(np.float32),
            scores=np.clip(rows[:, 14], 0, 1),
            landmarks=rows[:, 4:14].reshape(-1, 5, 2) / scale,
            image_size=prepared.original_size,
        )
