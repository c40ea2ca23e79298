"""What zoom gives and costs where nothing else is said: AP, time and false alarms, `--zoom off` beside `auto`.

    python benchmarks/zoom_by_default.py --data ../shared/data [--out docs]

Preset `lite`, one thread. AP is plain, IoU 0.5, scores from 0.02; a time is CPU time, for each photo the least of two,
the ways in turns, pixels in for labelled photos and files in for unlabelled ones. Written:
OUT/figures/zoom-by-default.json.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import numpy as np

from benchmarks.second_look import SETS, read_set
from retinaface_tf import RetinaFace
from retinaface_tf.data.readers.fddb import read_fddb_boxes
from retinaface_tf.evaluation.average_precision import average_precision
from retinaface_tf.evaluation.landmark_files import read_landmark_truth
from retinaface_tf.images.listing import list_images
from retinaface_tf.images.read import read_image
from retinaface_tf.util.files import write_whole

WAYS = ("off", "auto")
MORE = {"more": ("wider/val_more", "WIDER FACE val, few and larger faces")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("docs"))
    options = parser.parse_args()
    data, rows = options.data, []
    cv2.setNumThreads(1)
    labelled = {name: read_set(data / folder) for folder, name in (SETS | MORE).values()}
    fddb = read_fddb_boxes(data / "fddb/boxes_verified.txt", data / "fddb/originalPics")
    labelled["FDDB"] = fddb
    labelled["dlib"] = [
        image
        for part in ("testing", "training")
        for image in read_landmark_truth(data / f"dlib_faces/{part}_with_face_landmarks.xml")
    ]
    labelled["FDDB, faces from 48 pixels"] = drawn(
        [i for i in fddb if (i.boxes[:, 3] - i.boxes[:, 1]).min(initial=48) >= 48], 200
    )
    files = {
        "unlabelled": drawn([path for path, _ in list_images([str(data / "unlabelled")])], 400),
        "photos of animals": [path for path, _ in list_images([str(data / "negatives")])],
    }
    for precision in ("float32", "int8"):
        detector = RetinaFace.from_preset("lite", precision=precision, threads=1)
        for name, images in labelled.items():
            found, times = search(detector, [read_image(image.path) for image in images])
            truth = [(image.boxes, image.ignored) for image in images]
            aps = [precision_of(found[way], truth) for way in WAYS]
            rows.append(row(precision, name, found, times) | {"ap": aps})
            print(*rows[-1].values(), flush=True)
        for name, paths in files.items():
            found, times = search(detector, paths)
            shown = [sum(bool((f.scores >= 0.5).any()) for f in found[way]) for way in WAYS]
            rows.append(row(precision, name, found, times) | {"photos_with_faces": shown})
            print(*rows[-1].values(), flush=True)
    text = json.dumps(rows, indent=1) + "\n"
    write_whole(options.out / "figures" / "zoom-by-default.json", text)


def drawn(everything: list, count: int) -> list:
    """So many of a list, drawn by a seed."""
    chosen = np.random.default_rng(7).permutation(len(everything))[:count]
    return [everything[i] for i in sorted(chosen)]


def search(detector: RetinaFace, photos: list) -> tuple[dict, np.ndarray]:
    """The faces by each way, and ms [2, N]."""
    found = {way: [] for way in WAYS}
    times = np.full((len(WAYS), len(photos)), np.inf)
    for i, photo in enumerate(photos):
        for way in WAYS:
            found[way].append(detector.detect(photo, threshold=0.02, zoom=way))
        for k in (0, 1, 1, 0):
            begun = time.process_time()
            detector.detect(photo, zoom=WAYS[k])
            times[k, i] = min(times[k, i], 1000 * (time.process_time() - begun))
    return found, times


def precision_of(found: list, truth: list) -> float:
    return round(average_precision([(f.boxes, f.scores) for f in found], truth), 5)


def row(precision: str, name: str, found: dict, times: np.ndarray) -> dict:
    """A row of the table but for its result; "same": photos with equal faces, and the ratio of their times."""
    same = np.array([a == b for a, b in zip(*found.values())])
    off, auto = times[:, same].sum(axis=1)
    return {
        "precision": precision,
        "photos": name,
        "count": times.shape[1],
        "ms": times.mean(axis=1).round(2).tolist(),
        "same": [int(same.sum()), round(auto / off, 3)],
    }


if __name__ == "__main__":
    main()
