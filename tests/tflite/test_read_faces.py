"""The small reader, `tflite/read_faces.py`, finds what the package finds, in a real photo."""

from __future__ import annotations

import ast
from pathlib import Path

import detect_photo
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
    note = detect_photo.read_note(path.read_bytes())
    shape = np.array([note["input"]["width"], note["input"]["height"]])
    photo = Image.new("RGB", tuple(shape * (2 if size == "larger" else 1)), (90, 120, 150))
    portrait = Image.fromarray(astronaut).resize((photo.height // 2, photo.height // 2))
    photo.paste(portrait, (0, 0))
    photo.paste(portrait.rotate(12), (photo.width // 2, photo.height // 3))
    boxes, scores, points = detect_photo.detect(Interpreter(str(path)), note, photo)
    detector = RetinaFace.from_preset(precision=precision, size=int(shape.min()), large_faces=False)
    faces = detector.detect(photo)
    assert len(scores) == len(faces) == 2
    # A larger photo is shrunk by another library, which rounds pixels differently.
    pixels, score = (1.5, 0.03) if size == "larger" else (0.01, 1e-5)
    np.testing.assert_allclose(boxes, faces.boxes, atol=pixels)
    np.testing.assert_allclose(points, faces.landmarks, atol=pixels)
    np.testing.assert_allclose(scores, faces.scores, atol=score)


def test_each_axis_has_the_scale_of_its_whole_pixels():
    """4000x2253 at a width of 640 is 640x360 and not 360.48: lower edges would be 3 pixels off by one scale."""
    note = detect_photo.read_note(get_preset("lite").source.file("tflite", "float32").read_bytes())
    photo = Image.new("RGB", (4000, 2253))
    _, inside = detect_photo.place(photo, note)
    cells = len(read_faces.anchors(note))
    outputs = {
        "scores": np.zeros(cells, np.float32),
        "box_deltas": np.zeros((cells, 4), np.float32),
        "landmark_deltas": np.zeros((cells, 10), np.float32),
    }
    outputs["scores"][-1] = 1  # the last cell of stride 32; its box is moved to 521.6, 352
    moved = np.array([521.6, 352]) - (note["input"]["width"] - 16, note["input"]["height"] - 16)
    outputs["box_deltas"][-1, :2] = moved / 3.2
    boxes, _, _ = read_faces.read_faces(note, outputs, inside, photo.size)
    assert inside == (640, 360)
    np.testing.assert_allclose(boxes[0, [1, 3]], [336 / 360 * 2253, 2253], rtol=1e-6)
    np.testing.assert_allclose(boxes[0, [0, 2]], np.array([505.6, 537.6]) / 640 * 4000, rtol=1e-5)


def test_it_has_forty_lines_of_code_and_needs_numpy_alone():
    text = Path(read_faces.__file__).read_text()
    tree = ast.parse(text)
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [ast.unparse(node) for node in imports] == ["import math", "import numpy as np"]
    code = [line for line in ast.unparse(tree).splitlines() if line.strip()]  # without comments
    docstrings = [node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.FunctionDef)]
    prose = sum(len(ast.get_docstring(node, clean=False).splitlines()) for node in docstrings)
    assert len(code) - prose <= 40
