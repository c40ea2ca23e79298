"""Whether a correction of a teacher's boxes, learnt from official ones, brings them nearer: IoU before and after.

    python benchmarks/box_correction.py PHOTOS --wider wider_face_train_bbx_gt.txt --labels labels.jsonl

PHOTOS are those of the list; LABELS is what `data pseudo-label PHOTOS` wrote. The shift of each edge, in sides of the box,
is fitted by least squares to log2 of the side, its square and the log of width by height, on five photos of six.
"""

import argparse
import sys
import zlib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from retinaface_tf.data.readers.json_labels import read_json_labels
from retinaface_tf.data.readers.widerface import read_widerface
from retinaface_tf.geometry.boxes import match_pairs, pairwise_iou

LEAST_IOU = 0.4
BOUNDS = (0, 12, 20, 40, 80, np.inf)


def paired_boxes(photos: Path, wider: Path, labels: Path) -> tuple[np.ndarray, np.ndarray]:
    """Boxes of teacher and list [N, 2, 4] that overlap, and whether their photo is held out [N]."""
    official = {image.path: image for image in read_widerface(wider, photos)}
    pairs, held_out = [], []
    for image in read_json_labels(labels, photos):
        truth = official.get(image.path)
        if truth is None:
            continue
        ours, theirs = image.boxes[~image.ignored], truth.boxes[~truth.ignored]
        rows, columns = match_pairs(np.asarray(pairwise_iou(ours, theirs)), LEAST_IOU)
        pairs.append(np.stack([ours[rows], theirs[columns]], axis=1))
        name = f"wider_train/{image.path.relative_to(photos).as_posix()}"
        held_out += [zlib.crc32(name.encode()) % 6 == 0] * len(rows)
    return np.concatenate(pairs).astype(np.float64), np.array(held_out)


def corrected(teacher: np.ndarray, official: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """`boxes` [N, 4] moved as the teacher's would have to be to become official."""
    shift = (official - teacher) / np.tile(teacher[:, 2:] - teacher[:, :2], 2)
    factors = np.linalg.lstsq(_features(teacher), shift, rcond=None)[0]
    return boxes + _features(boxes) @ factors * np.tile(boxes[:, 2:] - boxes[:, :2], 2)


def _features(boxes: np.ndarray) -> np.ndarray:
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    side = np.log2(np.sqrt(width * height))
    return np.stack([np.ones_like(side), side, side**2, np.log(width / height)], axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--wider", type=Path, required=True)
    parser.add_argument("--labels", type=Path, required=True)
    options = parser.parse_args()
    pairs, held = paired_boxes(options.photos, options.wider, options.labels)
    taught, (teacher, official) = pairs[~held], pairs[held].transpose(1, 0, 2)
    moved = corrected(taught[:, 0], taught[:, 1], teacher)
    before, after = (np.diag(pairwise_iou(boxes, official)) for boxes in (teacher, moved))
    sides = np.sqrt(np.prod(teacher[:, 2:] - teacher[:, :2], axis=1))
    print(f"{len(taught)} pairs of boxes taught, {len(official)} held out\n")
    print("| side | boxes | IoU before | after |\n|---|--:|--:|--:|")
    for low, high in [(0, np.inf), *zip(BOUNDS[:-1], BOUNDS[1:])]:
        chosen = (sides >= low) & (sides < high)
        if chosen.any():
            name = "all" if chosen.all() else f"{low:g} to {high:g}"
            print(
                f"| {name} | {chosen.sum()} | {before[chosen].mean():.4f} | {after[chosen].mean():.4f} |"
            )


if __name__ == "__main__":
    main()
