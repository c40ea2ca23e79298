"""Detectors side by side on photos kept aside: AP at 640 letterbox and at the pictures' own size.

    python benchmarks/own_weights.py --data ../shared/data [--models FILE...] [--limit N]
        [--original] [--yunet FILE] [--ultra-light FILE] [--parts N] [--latency ROUNDS]

Sets: WIDER FACE val (16 photos), WIDER FACE val shrunk to 416x416 (100), FDDB's verified photos. AP is
plain, all valid faces, IoU 0.5, scores from 0.02, suppression 0.4. "640" scales the longer side to
640 pixels, up or down. Models are files `retinaface-tf detect --model` takes, or presets. Latency is
one thread, pixels in and faces out, the detectors taking turns on the same photos.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from retinaface_tf import RetinaFace, list_presets
from retinaface_tf.data.fddb import read_fddb_boxes
from retinaface_tf.data.widerface import read_widerface
from retinaface_tf.evaluation.average_precision import average_precision
from retinaface_tf.geometry.suppression import non_max_suppression
from retinaface_tf.inference.images import read_image
from retinaface_tf.inference.runtimes.yunet import YuNetFinder

THRESHOLD, IOU = 0.02, 0.4
STDERR = Console(stderr=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", nargs="*", default=[])
    parser.add_argument("--yunet", type=Path)
    parser.add_argument("--ultra-light", type=Path)
    parser.add_argument("--limit", type=int, help="pictures of each set, for a quick look")
    parser.add_argument("--fddb-step", type=int, default=1, help="take every n-th FDDB picture")
    parser.add_argument("--original", action="store_true", help="also at the pictures' own size")
    parser.add_argument("--latency", type=int, default=0, metavar="ROUNDS")
    options = parser.parse_args()
    sets = read_sets(options.data, options.fddb_step, options.limit)
    sizes = [("640", (640, 640))] + [("own size", "original")] * options.original
    detectors = open_detectors(options)
    columns = [
        f"{name} ({len(images)}), {size}" for size, _ in sizes for name, images in sets.items()
    ]
    table = Table("detector", *columns)
    for name, detector in detectors.items():
        row = []
        for _, size in sizes:
            for images in sets.values():
                found = [
                    detector(read_image(image.path), size)
                    for image in track(images, name, console=STDERR, transient=True)
                ]
                truth = [(image.boxes, image.ignored) for image in images]
                row.append(f"{average_precision(found, truth):.3f}")
        table.add_row(name, *row)
    console = Console(width=max(120, 24 * (1 + len(columns))))
    console.print(table)
    if options.latency:
        console.print(latency(detectors, sets, options.latency))


def read_sets(data: Path, fddb_step: int = 1, limit: int | None = None) -> dict:
    """The photos that are never trained on, with their labels."""
    wider, small = data / "wider/val", data / "wider_416/val"
    fddb = read_fddb_boxes(data / "fddb/boxes_verified.txt", data / "fddb/originalPics")
    return {
        "WIDER": read_widerface(wider / "wider_face_val_bbx_gt.txt", wider / "images")[:limit],
        "WIDER 416": read_widerface(small / "wider_face_val_bbx_gt.txt", small / "images")[:limit],
        "FDDB": fddb[::fddb_step][:limit],
    }


def open_detectors(options) -> dict:
    """Functions (picture, size) -> (boxes, scores), by name."""
    detectors = {"public mobilenet0.25": ours(RetinaFace.from_preset("mobilenet0.25", threads=1))}
    if options.yunet:
        detectors["YuNet"] = ours(RetinaFace(YuNetFinder(options.yunet)))
    if options.ultra_light:
        detectors["Ultra-Light RFB-640"] = UltraLight(options.ultra_light)
    for model in options.models:
        known = model in list_presets()
        detector = (RetinaFace.from_preset if known else RetinaFace.from_file)(model, threads=1)
        path = Path(model)
        detectors[model if known else f"{path.parent.name}/{path.name}"] = ours(detector)
    return detectors


def ours(detector: RetinaFace):
    """A detector of this package."""

    def find(picture: np.ndarray, size):
        faces = detector.detect(picture, threshold=THRESHOLD, iou=IOU, size=size, large_faces=False)
        return faces.boxes, faces.scores

    return find


class UltraLight:
    """Ultra-Light-Fast-Generic-Face-Detector's RFB-640: its input is always 640x480.

    Args:
        path: of its ONNX file, whose outputs are scores [1, N, 2] and corner boxes [1, N, 4] as
            shares of the input.
    """

    def __init__(self, path: Path):
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = settings.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(path), settings)
        entry = self._session.get_inputs()[0]
        self._name, (self._height, self._width) = entry.name, entry.shape[2:]

    def __call__(self, picture: np.ndarray, size):
        import cv2

        height, width = picture.shape[:2]
        scale = min(self._height / height, self._width / width)
        inner = max(1, round(width * scale)), max(1, round(height * scale))
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        frame = np.full((self._height, self._width, 3), 127, np.float32)
        frame[: inner[1], : inner[0]] = cv2.resize(picture, inner, interpolation=method)
        feed = ((frame - 127) / 128).transpose(2, 0, 1)[None].astype(np.float32)
        scores, boxes = self._session.run(None, {self._name: feed})
        scores, boxes = scores[0, :, 1], boxes[0]
        chosen = scores >= THRESHOLD
        boxes = boxes[chosen] * np.tile([self._width, self._height], 2) / scale
        kept = non_max_suppression(boxes, scores[chosen], IOU)
        return boxes[kept], scores[chosen][kept]


def latency(detectors: dict, sets: dict, rounds: int) -> Table:
    """Milliseconds for one picture at 640 letterbox."""
    images = [image for group in sets.values() for image in group[:2]]
    pictures = [read_image(image.path) for image in images]
    times = {name: [] for name in detectors}
    for count in range(rounds + 1):
        for picture in pictures:
            for name, detector in detectors.items():
                begin = time.perf_counter()
                detector(picture, (640, 640))
                if count:
                    times[name].append(time.perf_counter() - begin)
    table = Table("detector", "ms", "of the public network's")
    first = np.median(next(iter(times.values())))
    for name, values in times.items():
        table.add_row(name, f"{1000 * np.median(values):.1f}", f"{np.median(values) / first:.2f}")
    return table


if __name__ == "__main__":
    main()
