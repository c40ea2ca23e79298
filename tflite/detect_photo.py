"""Faces of a photo by an exported .tflite, an interpreter, Pillow and `read_faces.py`.

    python tflite/detect_photo.py faces.tflite photo.jpg

It wants a file that `retinaface-tf export tflite` wrote without --with-nms.
"""

import json
import sys
from pathlib import Path

import numpy as np
from read_faces import read_faces


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


def detect(interpreter, note: dict, photo):
    """Boxes [K, 4], scores [K] and points [K, 5, 2] in pixels of a PIL image."""
    pixels, inside = place(photo, note)
    return read_faces(note, run(interpreter, pixels), inside, photo.size)


if __name__ == "__main__":
    from ai_edge_litert.interpreter import Interpreter
    from PIL import Image, ImageOps

    if len(sys.argv) != 3:
        sys.exit("usage: python tflite/detect_photo.py FILE.tflite PHOTO")
    try:
        note = read_note(Path(sys.argv[1]).read_bytes())
        photo = ImageOps.exif_transpose(Image.open(sys.argv[2]))  # upright
        found = detect(Interpreter(sys.argv[1]), note, photo)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    for box, score, points in zip(*found):
        print(f"{score:.3f}", box.round(1).tolist(), points.round(1).tolist())
