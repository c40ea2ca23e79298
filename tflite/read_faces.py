"""Faces from an exported .tflite by numpy and an interpreter alone: a file to copy, or to port.

    python tflite/read_faces.py faces.tflite photo.jpg

The file says how: its note has the anchors, variances and thresholds. The formulas are explained in
docs/formulas.md. It wants a file that `retinaface-tf export tflite` wrote without --with-nms.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np


def read_note(content: bytes) -> dict:
    """The JSON note in a file's bytes; ValueError where there is none, or where the graph ends in faces."""
    start = content.find(b'{"retinaface_tf_sha256": "')
    if start < 0:
        raise ValueError("This is no .tflite that `retinaface-tf export tflite` wrote.")
    block = content[start : start + 65536].decode("utf-8", "replace")
    note, _ = json.JSONDecoder().raw_decode(block)
    if note["suppression"]:
        raise ValueError("This .tflite ends in faces: export it without --with-nms.")
    return note


def place(photo, note: dict) -> tuple[np.ndarray, tuple[int, int]]:
    """The network's input [H, W, 3] with the photo in its upper left corner, and (width, height) there."""
    height, width = note["input"]["height"], note["input"]["width"]
    scale = min(1, height / photo.height, width / photo.width)
    inside = max(1, round(photo.width * scale)), max(1, round(photo.height * scale))
    pixels = np.empty((height, width, 3), note["input"]["dtype"])
    pixels[:] = np.rint(note["input"]["padding"])
    pixels[: inside[1], : inside[0]] = photo.convert("RGB").resize(inside, resample=4)  # 4: area
    return pixels, inside


def run(interpreter, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """The outputs by name; `interpreter` is LiteRT's, tflite_runtime's or `tf.lite.Interpreter`."""
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], pixels[None])
    interpreter.invoke()
    outputs = interpreter.get_output_details()
    return {output["name"]: interpreter.get_tensor(output["index"])[0] for output in outputs}


def anchors(note: dict) -> np.ndarray:
    """[N, 3] centre x, y and side of each anchor: level, row, column, size."""
    tables = []
    for level in note["anchors"]["levels"]:
        rows, columns = (math.ceil(note["input"][k] / level["stride"]) for k in ("height", "width"))
        y, x = ((np.arange(n) + 0.5) * level["stride"] for n in (rows, columns))
        y, x, side = np.meshgrid(y, x, level["sizes"], indexing="ij")
        tables.append(np.stack([x, y, side], axis=-1).reshape(-1, 3))
    return np.concatenate(tables)


def decode(note: dict, outputs: dict[str, np.ndarray], threshold: float):
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


def suppress(boxes: np.ndarray, iou: float) -> list[int]:
    """Which boxes [K, 4], best first, overlap no better one that is kept."""
    kept: list[int] = []
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    for i, box in enumerate(boxes):
        sides = np.minimum(box[2:], boxes[kept, 2:]) - np.maximum(box[:2], boxes[kept, :2])
        common = np.prod(np.maximum(sides, 0), axis=1)
        if area[i] > 0 and (common <= iou * (area[i] + area[kept] - common)).all():
            kept.append(i)
    return kept


def read_faces(interpreter, note: dict, photo):
    """Boxes [K, 4], scores [K] and points [K, 5, 2] in pixels of a PIL image."""
    pixels, inside = place(photo, note)
    boxes, scores, points = decode(note, run(interpreter, pixels), note["threshold"])
    boxes = np.clip(boxes, 0, np.tile(inside, 2))
    kept = suppress(boxes, note["iou"])
    scale = np.divide(inside, photo.size)  # of x and y; equal but for rounding
    return boxes[kept] / np.tile(scale, 2), scores[kept], points[kept] / scale


if __name__ == "__main__":
    from ai_edge_litert.interpreter import Interpreter
    from PIL import Image, ImageOps

    if len(sys.argv) != 3:
        sys.exit("usage: python tflite/read_faces.py FILE.tflite PHOTO")
    try:
        note = read_note(Path(sys.argv[1]).read_bytes())
        photo = ImageOps.exif_transpose(Image.open(sys.argv[2]))  # upright
        found = read_faces(Interpreter(sys.argv[1]), note, photo)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    for box, score, points in zip(*found):
        print(f"{score:.3f}", box.round(1).tolist(), points.round(1).tolist())
