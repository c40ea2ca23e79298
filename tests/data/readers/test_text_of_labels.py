"""Every reader of labels and detections takes files as Windows writes them, and any file name."""

from __future__ import annotations

import codecs
import json
import os
from pathlib import Path

import numpy as np
import pytest

from retinaface_tf.data.readers.fddb import read_fold_names
from retinaface_tf.data.readers.registry import READERS
from retinaface_tf.errors import ConfigError, DataError
from retinaface_tf.evaluation.detections import read_detections
from retinaface_tf.evaluation.faces_of_pairs import read_template_pairs, read_templates
from retinaface_tf.evaluation.fddb import read_image_list
from retinaface_tf.evaluation.landmark_files import read_landmark_truth
from retinaface_tf.evaluation.results import read_json
from retinaface_tf.evaluation.verification import read_pairs
from retinaface_tf.util.options import read_options

NAME = "a b é.jpg"
FACES = {"image": NAME, "faces": [{"box": [1, 2, 11, 22], "score": 0.9, "landmarks": [[3, 4]] * 5}]}
COCO = {
    "images": [{"id": 1, "file_name": NAME}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 10, 20]}],
    "categories": [{"id": 1, "name": "face"}],
}
SHAPE = {"label": "face", "points": [[1, 2], [11, 22]], "shape_type": "rectangle"}
POINTS = f"version: 1\nn_points: 68\n{{\n{'5 6' + chr(10) + ('7 8' + chr(10)) * 67}}}\n"
LABELS = {
    "wider": f"{NAME}\n1\n1 2 10 20 0 0 0 0 0 0\n",
    "retinaface": f"# {NAME}\n1 2 10 20\n",
    "fddb": f"{NAME[:-4]}\n1\n10 5 1.5707963 6 12 1\n",
    "fddb-boxes": f"{NAME}\n1\n1 2 10 20\n",
    "coco": json.dumps(COCO, ensure_ascii=False),
    "json": json.dumps(FACES, ensure_ascii=False) + "\n",
    "labelme": json.dumps({"shapes": [SHAPE], "imagePath": NAME}, ensure_ascii=False),
}
FORMS = {
    "plain": lambda text: text.encode(),
    "windows": lambda text: text.replace("\n", "\r\n").encode(),
    "notepad": lambda text: codecs.BOM_UTF8 + text.replace("\n", "\r\n").encode(),
    "powershell": lambda text: codecs.BOM_UTF16_LE + text.replace("\n", "\r\n").encode("utf-16-le"),
    "big-endian": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
}
form = pytest.mark.parametrize("form", FORMS)


@form
@pytest.mark.parametrize("kind", LABELS)
def test_labels(tmp_path, kind, form):
    (tmp_path / "labels").write_bytes(FORMS[form](LABELS[kind]))
    (image,) = READERS[kind](tmp_path / "labels", Path("photos"))
    assert image.path == Path("photos") / NAME
    np.testing.assert_allclose(image.boxes, [[1, 2, 11, 22]], atol=1e-4)


@form
def test_detections(tmp_path, form):
    (tmp_path / "a.jsonl").write_bytes(FORMS[form](LABELS["json"]))
    (tmp_path / "a.txt").write_bytes(FORMS[form](f"{NAME}\n1\n1 2 10 20 0.9\n"))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/a b é.txt").write_bytes(FORMS[form](f"{NAME}\n1\n1 2 10 20 0.9\n"))
    for name in ("a.jsonl", "a.txt", "folder"):
        found = read_detections(tmp_path / name, {NAME[:-4]})
        np.testing.assert_allclose(found[NAME[:-4]].boxes, [[1, 2, 11, 22]])


@form
def test_lists_of_evaluation_and_options(tmp_path, form):
    def write(name, text):
        (tmp_path / name).write_bytes(FORMS[form](text))
        return tmp_path / name

    assert read_image_list(write("list.txt", f"{NAME}\n1\n"), {NAME[:-4]}) == [NAME[:-4]]
    assert read_fold_names(write("FDDB-fold-03.txt", "é/x\n").parent) == {"é/x": 3}
    assert read_pairs(write("p.csv", "é.jpg,b.jpg,1\n")).first == ("é.jpg",)
    assert read_pairs(write("p.txt", "1\nJosé\t1\t2\n")).first == ("José/José_0001.jpg",)
    assert read_templates(write("t.txt", "é.jpg 1 2\n"))[0] == ["é.jpg"]
    assert read_template_pairs(write("tp.txt", "1 2 1\n"))[2].tolist() == [True]
    assert read_json(write("r.json", '{"format": 1, "kind": "é"}'))["kind"] == "é"
    assert read_options(write("o.toml", 'a = "é"\n')) == {"a": "é"}
    assert read_options(write("o.json", '{"a": "é"}')) == {"a": "é"}
    (truth,) = read_landmark_truth(write("points.jsonl", LABELS["json"]))
    assert truth.path.name == NAME
    write("pts.jpg", "")
    (tmp_path / "pts").mkdir()
    (tmp_path / "pts/x.jpg").touch()
    (tmp_path / "pts/x.pts").write_bytes(FORMS[form](POINTS))
    (truth,) = read_landmark_truth(tmp_path / "pts")
    np.testing.assert_allclose(truth.boxes, [[4, 5, 6, 7]])


@pytest.mark.parametrize("kind", ["wider", "retinaface", "fddb-boxes", "json"])
def test_names_that_are_no_utf8(tmp_path, kind):
    name = os.fsdecode(b"\xff\xe9.jpg")
    if kind == "json":  # as `detect --json` writes it
        content = json.dumps({**FACES, "image": name}).encode()
    else:
        content = LABELS[kind].replace(NAME, name).encode("utf-8", "surrogateescape")
    (tmp_path / "labels").write_bytes(content)
    (tmp_path / name).touch()
    (image,) = READERS[kind](tmp_path / "labels", tmp_path)
    assert image.path.is_file()


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize(
    "content", [b"", b"\0\xff\xfe", b"[" * 100_000, b'{"a": 1' + b"0" * 5000 + b"}", b"\xff\xfe\0"]
)
def test_damaged_labels_are_a_sentence(tmp_path, kind, content):
    (tmp_path / "labels").write_bytes(content)
    try:
        assert READERS[kind](tmp_path / "labels", tmp_path) == [] and not content
    except DataError as error:
        assert "labels" in str(error)


@pytest.mark.parametrize(
    "change",
    [
        {"images": 3},
        {"images": [{"id": []}]},
        {"images": [{"id": 1, "file_name": 5}]},
        {"annotations": [5]},
        {"annotations": [{"image_id": 1, "bbox": ["a", 1, 2, 3]}]},
        {"annotations": [{"image_id": 1, "bbox": 4}]},
        {"annotations": [{"image_id": 1, "bbox": [10**400, 1, 2, 3]}]},
        {"categories": [{"id": 1}]},
        {"categories": 5},
    ],
)
def test_coco_of_another_layout_is_a_sentence(tmp_path, change):
    (tmp_path / "c.json").write_text(json.dumps({**COCO, **change}))
    with pytest.raises(DataError, match=r"c\.json"):
        READERS["coco"](tmp_path / "c.json", tmp_path)


def test_a_broken_configuration_is_a_sentence(tmp_path):
    (tmp_path / "c.json").write_text("[" * 100_000)
    with pytest.raises(ConfigError, match=r"c\.json cannot be parsed"):
        read_options(tmp_path / "c.json")
