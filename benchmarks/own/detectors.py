"""The detectors of the table, all with the same interface."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retinaface_tf import RetinaFace, list_presets
from retinaface_tf.geometry.nms import non_max_suppression
from retinaface_tf.inference.yunet import YuNetBackend
from retinaface_tf.util.files import sha256_of
from retinaface_tf.weights.choose_file import pull, runnable_file

IOU = 0.4
PUBLIC = "mobilenet0.25"

# (image uint8 RGB, size as `target_size` takes it, least score) -> boxes, scores, points or None.
Find = Callable[[np.ndarray, object, float], tuple[np.ndarray, np.ndarray, np.ndarray | None]]


@dataclass(frozen=True, eq=False)
class Detector:
    """One row of the table.

    Attributes:
        key: for files and tables: "public", "yunet", "ultra-light", "float32", "int8".
        name: in the table.
        mark: digest of the weights, so that kept results belong to them.
        find: detects the faces of an image.
        network: its .tflite, whose time is measured alone; None where there is none.
        points: whether it gives five points.
        any_size: False where the input has one size only.
        bytes: of its file.
    """

    key: str
    name: str
    mark: str
    find: Find
    network: Path | None
    points: bool
    any_size: bool
    bytes: int


def package_detector(key: str, name: str, model: str, runtime: str | None = None) -> Detector:
    """A detector of this package: a preset, or a file `detect --model` takes.

    Without a runtime weights run in LiteRT, on one thread.
    """
    weights = pull(model) if model in list_presets() else Path(model)
    detector = RetinaFace.from_file(weights, runtime=runtime, threads=1)
    ready, runtime = runnable_file(weights, runtime)
    return Detector(
        key,
        name,
        sha256_of(weights)[:8],
        _search(detector),
        ready if runtime == "litert" else None,
        points=True,
        any_size=detector.runtime.fixed_shape is None,
        bytes=weights.stat().st_size,
    )


def yunet(path: Path) -> Detector:
    """YuNet through OpenCV."""
    find = _search(RetinaFace(YuNetBackend(path)))
    return Detector(
        "yunet", "YuNet-n", sha256_of(path)[:8], find, None, True, True, path.stat().st_size
    )


def ultra_light(path: Path) -> Detector:
    """Ultra-Light-Fast-Generic-Face-Detector's RFB-640 through onnxruntime."""
    mark, size = sha256_of(path)[:8], path.stat().st_size
    name = "Ultra-Light RFB-640 (at 640x480)"
    return Detector("ultra-light", name, mark, UltraLight(path), None, False, False, size)


def _search(detector: RetinaFace) -> Find:
    def find(image, size, threshold):
        # The network alone: no further looks for close-ups and small faces.
        faces = detector.detect(
            image, threshold=threshold, iou=IOU, size=size, large_faces=False, zoom="off"
        )
        return faces.boxes, faces.scores, faces.landmarks

    return find


class UltraLight:
    """Ultra-Light's RFB-640: its input is always 640x480, whatever size is asked for.

    Args:
        path: of its ONNX file, whose outputs are scores [1, N, 2] and corner boxes [1, N, 4] as
            shares of the input.
    """

    def __init__(self, path: Path):
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 3
        settings.intra_op_num_threads = settings.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(path), settings)
        entry = self._session.get_inputs()[0]
        self._name, (self._height, self._width) = entry.name, entry.shape[2:]

    def __call__(self, image: np.ndarray, size, threshold: float):
        import cv2

        height, width = image.shape[:2]
        scale = min(self._height / height, self._width / width)
        inner = max(1, round(width * scale)), max(1, round(height * scale))
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        frame = np.full((self._height, self._width, 3), 127, np.float32)
        frame[: inner[1], : inner[0]] = cv2.resize(image, inner, interpolation=method)
        feed = ((frame - 127) / 128).transpose(2, 0, 1)[None].astype(np.float32)
        scores, boxes = self._session.run(None, {self._name: feed})
        scores, boxes = scores[0, :, 1], boxes[0]
        chosen = scores >= threshold
        boxes = boxes[chosen] * np.tile([self._width, self._height], 2) / scale
        kept = non_max_suppression(boxes, scores[chosen], IOU)
        return boxes[kept], scores[chosen][kept], None
