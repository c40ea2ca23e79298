"""The small reader, `tflite/read_faces.py`, finds what the package finds, in a real photo."""

from __future__ import annotations

import numpy as np
import pytest
import read_faces
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

from retinaface_tf import RetinaFace, get_preset


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("size", ["the input's", "larger"])
def test_it_finds_the_faces_that_the_package_finds(astronaut, precision, size):
    path = get_preset("lite").source.file("tflite", precision)
    note = read_faces.read_note(path.read_bytes())
    shape = np.array([note["input"]["width"], note["input"]["height"]])
    photo = Image.new("RGB", tuple(shape * (2 if size == "larger" else 1)), (90, 120, 150))
    portrait = Image.fromarray(astronaut).resize((photo.height // 2, photo.height // 2))
    photo.paste(portrait, (0, 0))
    photo.paste(portrait.rotate(12), (photo.width // 2, photo.height // 3))
    boxes, scores, points = read_faces.read_faces(Interpreter(str(path)), note, photo)
    detector = RetinaFace.from_preset(precision=precision, size=int(shape.min()), large_faces=False)
    faces = detector.detect(photo)
    assert len(scores) == len(faces) == 2
    # A larger photo is shrunk by another library, which rounds pixels differently.
    pixels, score = (1.5, 0.03) if size == "larger" else (0.01, 1e-5)
    np.testing.assert_allclose(boxes, faces.boxes, atol=pixels)
    np.testing.assert_allclose(points, faces.landmarks, atol=pixels)
    np.testing.assert_allclose(scores, faces.scores, atol=score)
