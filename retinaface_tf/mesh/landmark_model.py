"""MediaPipe's 468-point face landmark model on images, through LiteRT.

The model (Kartynnik et al. 2019, "Real-time facial surface geometry from monocular video on mobile
GPUs"; Apache-2.0) takes a square crop with level eyes and gives x, y, z in the crop's pixels, z growing
away from the viewer, and the logit that there is a face.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from retinaface_tf.errors import WeightsError
from retinaface_tf.util.files import is_file
from retinaface_tf.util.per_process import PerProcess

POINTS = 468
# Of the crop against the longer side of the face: what the model was trained with.
CROP_SCALE = 1.5
# Outer eye corners, the image's left and right.
_EYES = (33, 263)


class Roi(NamedTuple):
    """A turned square of an image.

    Attributes:
        center: (x, y) in pixels.
        side: in pixels.
        angle: in radians, by which its upper edge is turned clockwise (y points down).
    """

    center: tuple[float, float]
    side: float
    angle: float


def roi_of_face(box: np.ndarray, landmarks: np.ndarray) -> Roi:
    """The square the model expects: level eyes, 1.5 times the box's longer side.

    Args:
        box: [4] x1, y1, x2, y2 in pixels.
        landmarks: [5, 2] in the order of `faces.rows.LANDMARK_NAMES`.
    """
    across = landmarks[1] - landmarks[0]
    x1, y1, x2, y2 = (float(v) for v in box)
    center = ((x1 + x2) / 2, (y1 + y2) / 2)
    return Roi(center, CROP_SCALE * max(x2 - x1, y2 - y1), float(np.arctan2(across[1], across[0])))


def roi_of_points(points: np.ndarray) -> Roi:
    """The square around 468 points [468, 2 or 3] in pixels, as MediaPipe
    crops a video's next frame."""
    across = points[_EYES[1], :2] - points[_EYES[0], :2]
    angle = float(np.arctan2(across[1], across[0]))
    turned = points[:, :2] @ _rotation(angle)
    low, high = turned.min(axis=0), turned.max(axis=0)
    center = _rotation(angle) @ ((low + high) / 2)
    return Roi((float(center[0]), float(center[1])), CROP_SCALE * float((high - low).max()), angle)


class FaceLandmarkModel(PerProcess):
    """The model in a file, ready for images; may be called from any thread, and after a fork.

    Args:
        path: of `face_landmark.tflite`.

    Raises:
        WeightsError: the file is missing or is another model.
    """

    _own = ("_idle", "_lock", "_pool")

    def __init__(self, path: str | Path):
        from ai_edge_litert.interpreter import Interpreter

        self.path = Path(path)
        if not is_file(self.path):
            raise WeightsError(f"There is no face landmark model {path}; check the path.")
        try:
            first = Interpreter(model_path=str(path), num_threads=1)
            (image,) = first.get_input_details()
            points, presence = sorted(first.get_output_details(), key=lambda d: -d["shape"].prod())
        except (ValueError, RuntimeError) as error:
            raise WeightsError(f"LiteRT cannot read {path}: {error}.") from None
        if points["shape"].prod() != 3 * POINTS or presence["shape"].prod() != 1:
            raise WeightsError(
                f"{path} does not give {POINTS} points and a score; give MediaPipe's "
                "face_landmark.tflite."
            )
        self._side = int(image["shape"][1])
        self._input, self._outputs = image["index"], (points["index"], presence["index"])
        self._forget()

    def _forget(self) -> None:
        self._idle, self._lock = [], threading.Lock()
        self._pool = ThreadPoolExecutor(2, "face-landmarks")

    def __call__(
        self, image: np.ndarray, rois: list[Roi], passes: int = 2
    ) -> tuple[np.ndarray, np.ndarray]:
        """Points of the faces in some squares of an image.

        Args:
            image: RGB uint8 [H, W, 3].
            rois: one square a face.
            passes: each further pass crops anew, around the points of the one before.

        Returns:
            float32 [N, 468, 3] x, y, z in the image's pixels, z away from the viewer; float32
            [N] probability that there is a face.
        """
        answers = list(self._pool.map(lambda roi: self._look(image, roi, passes), rois))
        points = np.array([points for points, _ in answers], np.float32).reshape(-1, POINTS, 3)
        return points, np.array([score for _, score in answers], np.float32)

    def _look(self, image: np.ndarray, roi: Roi, passes: int) -> tuple[np.ndarray, float]:
        for _ in range(passes):
            scale = roi.side / self._side
            turn = scale * _rotation(roi.angle)
            # From crop pixel centres to the image's.
            shift = np.asarray(roi.center) - turn @ np.full(2, self._side / 2)
            matrix = np.concatenate([turn, shift[:, None]], axis=1)
            sampled = matrix.copy()
            sampled[:, 2] += turn @ np.full(2, 0.5) - 0.5
            crop = _sample(image, sampled, self._side, scale)
            points, logit = self._run(crop)
            xy = points[:, :2] @ turn.T + shift
            points = np.concatenate([xy, points[:, 2:] * scale], axis=1)
            roi = roi_of_points(points)
        return points, 1 / (1 + np.exp(-logit))

    def _run(self, crop: np.ndarray) -> tuple[np.ndarray, float]:
        from ai_edge_litert.interpreter import Interpreter

        with self._lock:
            interpreter = self._idle.pop() if self._idle else None
        if interpreter is None:
            interpreter = Interpreter(model_path=str(self.path), num_threads=1)
            interpreter.allocate_tensors()
        interpreter.set_tensor(self._input, crop[None].astype(np.float32) / 255)
        interpreter.invoke()
        points, presence = (interpreter.get_tensor(index) for index in self._outputs)
        with self._lock:
            self._idle.append(interpreter)
        return points.reshape(POINTS, 3).astype(np.float64), float(presence.squeeze())


def _rotation(angle: float) -> np.ndarray:
    """[2, 2], turning clockwise where y points down."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _sample(image: np.ndarray, matrix: np.ndarray, side: int, scale: float) -> np.ndarray:
    """The crop; an image that would be shrunk by more than two is blurred to that size first."""
    if scale > 2:
        factor = 1 / int(scale)
        image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        matrix = matrix * factor
        matrix[:, 2] += factor / 2 - 0.5
    return cv2.warpAffine(
        image, matrix, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )
