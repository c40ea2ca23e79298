"""Exported files against Keras: largest difference on photos, detections that differ, AP.

    python benchmarks/exports.py FILE... --data ../shared/data [--photos 20] [--fddb-step 1]

FILES are .tflite or .onnx of the preset mobilenet0.25. The photos are FDDB's, spread evenly.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from retinaface_tf import RetinaFace
from retinaface_tf.data.readers.fddb import read_fddb_boxes
from retinaface_tf.data.readers.widerface import read_widerface
from retinaface_tf.evaluation.average_precision import average_precision, best_overlap
from retinaface_tf.images.read import read_image
from retinaface_tf.inference.preprocess import bucket_shape, prepare, stack_padded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--photos", type=int, default=20)
    parser.add_argument("--fddb-step", type=int, default=1, help="take every n-th image")
    options = parser.parse_args()
    data = options.data
    fddb = read_fddb_boxes(data / "fddb/boxes_verified.txt", data / "fddb/originalPics")
    sets = {
        "FDDB verified": fddb[:: options.fddb_step],
        "wider_416": _wider(data / "wider_416/val"),
        "wider/val": _wider(data / "wider/val"),
    }
    photos = [image.path for image in fddb[:: len(fddb) // options.photos][: options.photos]]
    reference = RetinaFace.from_preset("mobilenet0.25", runtime="keras")
    for file in (None, *options.files):
        detector = RetinaFace.from_file(file) if file else reference
        print(f"\n{file.name if file else 'keras'}", flush=True)
        if file:
            print("  " + compare(detector, reference, photos), flush=True)
        for name, images in sets.items():
            found = detector.detect(
                [image.path for image in images], threshold=0.02, large_faces=False, zoom="off"
            )
            score = average_precision(
                [(faces.boxes, faces.scores) for faces in found],
                [(image.boxes, image.ignored) for image in images],
            )
            print(f"  AP {name} ({len(images)} images): {100 * score:.2f}", flush=True)


def compare(detector: RetinaFace, reference: RetinaFace, photos: list[Path]) -> str:
    """Differences of raw outputs, and of the faces found at the default threshold."""
    config, largest, finite = reference.config, np.zeros(3), True
    faces = missing = extra = 0
    shift, scores = [], []
    for photo in photos:
        prepared = prepare(read_image(photo))
        shape = bucket_shape(*prepared.pixels.shape[:2], config.max_stride)
        batch = stack_padded([prepared.pixels], shape, config.pixel_mean)
        ours, theirs = detector.runtime(batch), reference.runtime(batch)
        finite = finite and all(np.isfinite(v).all() for v in ours)
        largest = np.maximum(largest, [np.abs(a - b).max() for a, b in zip(ours, theirs)])
        got, want = detector.detect(photo), reference.detect(photo)
        match, iou = best_overlap(want.boxes, got.boxes)
        hit = iou >= 0.5
        faces, missing = faces + len(want), missing + int((~hit).sum())
        extra += len(got) - len(set(match[hit]))
        shift += list(np.abs(want.boxes[hit] - got.boxes[match[hit]]).max(axis=1, initial=0))
        scores += list(np.abs(want.scores[hit] - got.scores[match[hit]]))
    return (
        f"{len(photos)} photos: finite {finite}; largest difference of scores, boxes, landmarks: "
        + ", ".join(f"{v:.1e}" for v in largest)
        + f"; of {faces} faces {missing} missing, {extra} more; boxes moved by "
        f"{np.mean(shift):.3f} px (most {np.max(shift):.2f}), scores by {np.mean(scores):.4f}"
    )


def _wider(folder: Path) -> list:
    return read_widerface(folder / "wider_face_val_bbx_gt.txt", folder / "images")


if __name__ == "__main__":
    main()
