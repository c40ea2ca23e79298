"""The vectors that decoders in other languages are held to, read here by `tflite/read_faces.py`."""

from __future__ import annotations

import base64
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from read_faces import decode

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> dict[str, dict]:
    path = REPOSITORY / "tflite" / "write_vectors.py"
    spec = importlib.util.spec_from_file_location("write_vectors", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tmp_path_factory.mktemp("vectors")
    module.write_drawn(folder)
    return {path.stem: json.loads(path.read_text()) for path in (folder / "drawn").glob("*.json")}


def test_every_face_is_one_that_the_small_reader_decodes(drawn):
    assert len(drawn) >= 12
    for name, vector in drawn.items():
        note = vector["metadata"]
        note["input"]["height"], note["input"]["width"] = vector["network_size"]
        outputs = {
            key: np.frombuffer(base64.b64decode(text), "<f4").reshape(-1, columns)
            for (key, text), columns in zip(vector["outputs"].items(), (1, 4, 10))
        }
        outputs["scores"] = outputs["scores"][:, 0]
        outputs["box_deltas"] = np.clip(outputs["box_deltas"], -1e6, 900)
        scale_x, scale_y = vector["scale"]
        height, width = vector["original_size"]
        plain = set()
        for box, score, points in zip(*decode(note, outputs, vector["threshold"])):
            x1, y1, x2, y2 = box
            box = [min(max(x / scale_x, 0), width) for x in (x1, x2)]
            box += [min(max(y / scale_y, 0), height) for y in (y1, y2)]
            x, y = points[0]
            values = (box[0], box[2], box[1], box[3], x / scale_x, y / scale_y)
            plain.add((round(float(score), 5), *(round(value, 1) for value in values)))
        faces = vector["faces"]
        for score, box, points in zip(faces["scores"], faces["boxes"], faces["landmarks"]):
            assert any(
                np.allclose((score, *box, *points[0]), other, rtol=1e-4, atol=0.06)
                for other in plain
            ), name


def test_the_corners_are_there(drawn):
    assert len(drawn["nothing"]["faces"]["scores"]) == 0
    assert len(drawn["best-three"]["faces"]["scores"]) == 3
    scores = drawn["ties"]["faces"]["scores"]
    assert len(set(scores)) < len(scores)
    width = drawn["wild-deltas"]["original_size"][1]
    assert any(box[0] == 0 and box[2] == width for box in drawn["wild-deltas"]["faces"]["boxes"])
