"""Times on one thread: the network alone, and pixels in, faces out; everybody in turns."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from benchmarks.network_latency import runner, times
from benchmarks.own.detectors import Detector
from benchmarks.peers.images import FRAME, ImageSet, letterbox
from retinaface_tf.images.read import read_image

# Score of a face, as in daily use.
THRESHOLD = 0.5
SEED = 11
PHOTOS = 4


def network_times(detectors: list[Detector], rounds: int) -> dict[str, float]:
    """Median milliseconds of LiteRT for 640x640 pixels, by key; those that have a .tflite."""
    runs = {
        d.key: runner(Path(d.network).read_bytes(), (FRAME, FRAME))
        for d in detectors
        if d.network is not None
    }
    return times(runs, rounds)


def end_to_end_times(
    detectors: list[Detector], sets: dict[str, ImageSet], rounds: int
) -> dict[str, float]:
    """Median milliseconds an image, by key: letterboxed photos of 640x640, two sets' alike."""
    import cv2

    cv2.setNumThreads(1)
    squares = timed_images(sets)

    def timed(detector: Detector):
        def run() -> float:
            # The process's own time: neighbours on the machine do not count.
            begin = time.process_time()
            for square in squares:
                detector.find(square, "original", THRESHOLD)
            return (time.process_time() - begin) / len(squares)

        return run

    return times({detector.key: timed(detector) for detector in detectors}, rounds)


def timed_images(sets: dict[str, ImageSet]) -> list[np.ndarray]:
    """Four photos drawn by a fixed seed, two of WIDER and two of FDDB, each uint8 [640, 640, 3]."""
    chosen = []
    for key in ("wider", "fddb"):
        order = np.random.default_rng(SEED).permutation(len(sets[key].photos))
        chosen += [sets[key].photos[i] for i in order[: PHOTOS // 2]]
    return [letterbox(read_image(photo))[0] for photo in chosen]
