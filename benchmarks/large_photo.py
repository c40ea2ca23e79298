"""From a 12-megapixel JPEG to its faces at 640: CPU time, beside another checkout of this package.

    python benchmarks/large_photo.py [--photo PHOTO] [--other CHECKOUT] [--preset lite] [--rounds 40]

Without `--photo`, the portrait that scikit-image ships, enlarged, with a sensor's noise. One thread; each
checkout has a process of its own, and they take turns.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

RUN = """
import sys, time, cv2
cv2.setNumThreads(1)
from retinaface_tf import RetinaFace
detector = RetinaFace.from_preset(sys.argv[2], threads=1)
data = open(sys.argv[1], "rb").read()
for line in sys.stdin:
    begin = time.process_time()
    faces = detector.detect(data, size=(640, 640))
    print(time.process_time() - begin, len(faces), flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--photo", type=Path)
    parser.add_argument("--other", type=Path)
    parser.add_argument("--preset", default="lite")
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    here = Path(__file__).resolve().parents[1]
    with tempfile.TemporaryDirectory() as folder:
        photo = (options.photo or large_portrait(Path(folder))).resolve()
        runs = {}
        for checkout in filter(None, (options.other, here)):
            runs[checkout] = subprocess.Popen(
                [sys.executable, "-c", RUN, str(photo), options.preset],
                cwd=folder,
                env=dict(os.environ, PYTHONPATH=str(checkout.resolve())),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        times, faces = {checkout: [] for checkout in runs}, {}
        for number in range(options.rounds + 3):
            for checkout, run in runs.items():
                run.stdin.write("\n")
                run.stdin.flush()
                seconds, faces[checkout] = map(float, run.stdout.readline().split())
                if number >= 3:
                    times[checkout].append(1000 * seconds)
        for run in runs.values():
            run.stdin.close()
            run.wait()
    first = statistics.median(next(iter(times.values())))
    for checkout, values in times.items():
        median = statistics.median(values)
        print(f"{checkout}: {median:.1f} ms, x{median / first:.2f}, {faces[checkout]:.0f} faces")


def large_portrait(folder: Path) -> Path:
    from skimage.data import astronaut

    image = cv2.resize(astronaut()[:384], (4000, 3000), interpolation=cv2.INTER_CUBIC)
    image = image + np.random.default_rng(0).normal(0, 4, image.shape)
    path = folder / "portrait.jpg"
    quality = [cv2.IMWRITE_JPEG_QUALITY, 92]
    cv2.imwrite(str(path), np.clip(image, 0, 255).astype(np.uint8)[..., ::-1], quality)
    return path


if __name__ == "__main__":
    main()
