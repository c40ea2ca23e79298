"""Crowds in photos of 12, 50 and 108 megapixels: zoom against the photo as it is and against tiling all of it.

    python benchmarks/huge_photos.py LABELS PHOTOS [--out docs]

Six photos of WIDER FACE labels, those with the most faces, lie in their own pixels in a large blurred one, a JPEG.
Each row is of a process of its own, one thread, preset `lite`: faces found at 0.5, labelled faces hit (IoU 0.5),
CPU seconds from the file to the faces (the least of three), peak memory. Written:
OUT/figures/huge-photos.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import numpy as np

from retinaface_tf import RetinaFace
from retinaface_tf.data.readers.widerface import read_widerface
from retinaface_tf.evaluation.average_precision import best_overlap
from retinaface_tf.images.read import read_image
from retinaface_tf.inference.test_time_augmentation import Augmentation, AugmentedDetector
from retinaface_tf.util.files import write_whole

SIZES = {12: (3000, 4000), 50: (6120, 8160), 108: (9000, 12000)}
SETTINGS = {
    "as it is": {"zoom": "off"},
    "--zoom auto": {"zoom": "auto"},
    "--zoom auto --budget 200": {"zoom": "auto", "budget": 200},
    "--tiles 640": {},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("labels", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs"))
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for megapixels, size in SIZES.items():
            photo = Path(folder) / f"{megapixels}.jpg"
            truth = lay(options.labels, options.photos, size, photo)
            for precision in ("float32", "int8"):
                for name in SETTINGS:
                    command = [sys.executable, __file__, "--child", str(photo), precision, name]
                    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
                    run = json.loads(done.stdout)
                    boxes = np.reshape(run.pop("boxes"), (-1, 4))
                    hit = best_overlap(truth, boxes)[1] >= 0.5
                    counts = {"labelled": len(truth), "hit": int(hit.sum()), "found": len(boxes)}
                    key = {"megapixels": megapixels, "precision": precision, "setting": name}
                    rows.append(key | counts | run)
                    print(*rows[-1].values(), flush=True)
    write_whole(options.out / "figures" / "huge-photos.json", json.dumps(rows, indent=1) + "\n")


def lay(labels: Path, photos: Path, size: tuple[int, int], out: Path) -> np.ndarray:
    """Writes a photo of (height, width) with crowds from its middle on; boxes [N, 4] of their faces."""
    crowds = sorted(read_widerface(labels, photos), key=lambda image: -len(image.boxes))[:6]
    height, width = size
    blurred = cv2.GaussianBlur(read_image(crowds[-1].path), (0, 0), 9)
    large, boxes = cv2.resize(blurred, (width, height)), []
    y, x = height // 2, width // 10
    for crowd in crowds:
        pixels = read_image(crowd.path)
        rows, columns = pixels.shape[:2]
        if x + columns > width:
            y, x = y + 800, width // 10
        if y + rows > height:
            break
        large[y : y + rows, x : x + columns] = pixels
        boxes.append(crowd.boxes[~crowd.ignored] + [x, y, x, y])
        x += columns + 40
    cv2.imwrite(str(out), large[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
    return np.concatenate(boxes)


def child(photo: str, precision: str, name: str) -> None:
    cv2.setNumThreads(1)
    detector = RetinaFace.from_preset("lite", precision=precision, threads=1)
    if name == "--tiles 640":
        detector = AugmentedDetector(detector, Augmentation(tile=640))
    seconds = []
    for _ in range(3):
        begun = time.process_time()
        faces = detector.detect(photo, **SETTINGS[name])
        seconds.append(time.process_time() - begun)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    spent = {"seconds": round(min(seconds), 2), "mb": round(peak)}
    print(json.dumps({"boxes": faces.boxes.tolist()} | spent))


if __name__ == "__main__":
    child(*sys.argv[2:]) if sys.argv[1:2] == ["--child"] else main()
