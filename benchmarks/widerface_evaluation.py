"""Time and memory of the WIDER FACE evaluation on made detections over the official val list.

    python benchmarks/widerface_evaluation.py --gt DIR_OF_MAT

Runs on one core. Each size is a process of its own, so that peak memory is that size's.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from pathlib import Path


def main() -> None:
    """Print one line for each number of detections an image."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gt", type=Path, required=True)
    parser.add_argument("--detections", type=int, help="measure this many an image, here and now")
    options = parser.parse_args()
    if options.detections:
        measure(options.gt, options.detections)
        return
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    for count in (125, 250, 500, 1000, 2000):
        command = [sys.executable, __file__, "--gt", str(options.gt), "--detections", str(count)]
        subprocess.run(command, check=True)


def measure(gt: Path, count: int) -> None:
    """Evaluate `count` detections an image on one core."""
    import numpy as np

    from retinaface_tf.evaluation.detections import ImageDetections
    from retinaface_tf.evaluation.widerface import SUBSETS, evaluate_widerface, read_ground_truth

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    truth = read_ground_truth(gt)
    rng = np.random.default_rng(0)
    found = {}
    for key, faces in zip(truth.images, truth.boxes):
        near = faces[rng.integers(0, len(faces), count)]
        sides = np.maximum(near[:, 2:] - near[:, :2], 2)
        corner = near[:, :2] + rng.normal(0, 0.2, (count, 2)) * sides
        boxes = np.hstack([corner, corner + sides * np.exp(rng.normal(0, 0.1, (count, 2)))])
        found[key] = ImageDetections(boxes, -np.sort(-rng.random(count)))
    start = time.process_time()
    result = evaluate_widerface(truth, found)
    figures = [f"{result.average_precision(subset):.4f}" for subset in SUBSETS]
    three = time.process_time() - start
    for subset in SUBSETS:
        result.mean_average_precision(subset)
    result.by_height(), result.by_attribute(), result.by_event()
    everything = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{len(truth.images)} images x {count:4} detections: easy, medium, hard {three:5.2f} s "
        f"({1e6 * three / len(truth.images) / count:.2f} us a detection), with mAP and all tables "
        f"{everything:5.2f} s, peak {peak:4.0f} MiB; AP {' '.join(figures)}",
        flush=True,
    )


if __name__ == "__main__":
    main()
