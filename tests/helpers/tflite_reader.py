"""A reader of exported files that knows only what they say: no code of the package, plain loops."""

from __future__ import annotations

import json
import math

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter


def note_of(content: bytes) -> dict:
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    (entry,) = [m for m in model.metadata if m.name == b"retinaface_tf"]
    return json.loads(bytes(model.buffers[entry.buffer].data))


def run(content: bytes, image: np.ndarray) -> dict[str, np.ndarray]:
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    (entry,) = interpreter.get_input_details()
    assert entry["name"] == "image"
    interpreter.set_tensor(entry["index"], image[None].astype(entry["dtype"]))
    interpreter.invoke()
    return {
        detail["name"]: interpreter.get_tensor(detail["index"])[0]
        for detail in interpreter.get_output_details()
    }


def faces(note: dict, outputs: dict[str, np.ndarray], threshold: float) -> list[tuple]:
    """(score, box, points) of every anchor at or above the threshold, before suppression."""
    height, width = note["input"]["height"], note["input"]["width"]
    center, growth = note["variances"]["center"], note["variances"]["size"]
    found, i = [], 0
    for level in note["anchors"]["levels"]:
        stride = level["stride"]
        for row in range(math.ceil(height / stride)):
            for column in range(math.ceil(width / stride)):
                for size in level["sizes"]:
                    score = float(outputs["scores"][i])
                    if score >= threshold:
                        x, y = (column + 0.5) * stride, (row + 0.5) * stride
                        dx, dy, dw, dh = map(float, outputs["box_deltas"][i])
                        cx, cy = x + dx * center * size, y + dy * center * size
                        w, h = size * math.exp(dw * growth), size * math.exp(dh * growth)
                        box = (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
                        deltas = list(map(float, outputs["landmark_deltas"][i]))
                        points = [
                            (
                                x + deltas[2 * p] * center * size,
                                y + deltas[2 * p + 1] * center * size,
                            )
                            for p in range(5)
                        ]
                        found.append((score, box, points))
                    i += 1
    assert i == len(outputs["scores"])
    return sorted(found, key=lambda face: -face[0])
