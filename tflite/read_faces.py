"""Faces from the outputs of an exported .tflite, in numpy alone: 40 lines to copy, or to port.

`detect_photo.py`, beside this file, runs the network on a photo. docs/formulas.md explains the formulas. `note` is the JSON
note in the file: it has the anchors, variances and thresholds. `outputs` are the network's, by name.
"""

import math

import numpy as np


def anchors(note):
    """[N, 3] centre x, y and side of each anchor: level, row, column, size."""
    tables = []
    for level in note["anchors"]["levels"]:
        rows, columns = (math.ceil(note["input"][k] / level["stride"]) for k in ("height", "width"))
        y, x = ((np.arange(n) + 0.5) * level["stride"] for n in (rows, columns))
        y, x, side = np.meshgrid(y, x, level["sizes"], indexing="ij")
        tables.append(np.stack([x, y, side], axis=-1).reshape(-1, 3))
    return np.concatenate(tables)


def decode(note, outputs, threshold):
    """Boxes [K, 4], scores [K], points [K, 5, 2] in input pixels, best first, before suppression."""
    found = np.flatnonzero(outputs["scores"] >= threshold)
    found = found[np.argsort(-outputs["scores"][found], kind="stable")]
    anchor = anchors(note)[found]
    center, side = anchor[:, :2], anchor[:, 2:]
    shift, growth = note["variances"]["center"], note["variances"]["size"]
    deltas = outputs["box_deltas"][found].astype(float)
    middle = center + deltas[:, :2] * shift * side
    half = side * np.exp(deltas[:, 2:] * growth) / 2
    points = outputs["landmark_deltas"][found].reshape(-1, 5, 2)
    points = center[:, None] + points * shift * side[:, None]
    return np.concatenate([middle - half, middle + half], axis=1), outputs["scores"][found], points


def suppress(boxes, iou):
    """Which boxes [K, 4], best first, overlap no better one that is kept."""
    kept = []
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    for i, box in enumerate(boxes):
        sides = np.minimum(box[2:], boxes[kept, 2:]) - np.maximum(box[:2], boxes[kept, :2])
        common = np.prod(np.maximum(sides, 0), axis=1)
        if area[i] > 0 and (common <= iou * (area[i] + area[kept] - common)).all():
            kept.append(i)
    return kept


def read_faces(note, outputs, inside, size):
    """Boxes, scores and points in pixels of a photo of `size`, scaled to `inside` of the frame; both (width, height)."""
    boxes, scores, points = decode(note, outputs, note["threshold"])
    boxes = np.clip(boxes, 0, np.tile(inside, 2))
    kept = suppress(boxes, note["iou"])
    scale = np.divide(inside, size)  # of x and y; equal but for rounding
    return boxes[kept] / np.tile(scale, 2), scores[kept], points[kept] / scale
