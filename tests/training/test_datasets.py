"""COCO's JSON and JSON lines: found under `data.root` in the layouts that people have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from retinaface_tf.errors import ConfigError, DataError
from retinaface_tf.training.config import TrainingConfig
from retinaface_tf.training.datasets import open_data_sets

COCO_LAYOUTS = {
    "annotations/instances_train2017.json": "train2017",
    "annotations/train.json": "images/train",
    "train/_annotations.coco.json": "train",
    "train.json": "train/images",
    "labels.json": "images",
    "_annotations.coco.json": "",
    "annotations/faces.json": "images",
}
JSON_LAYOUTS = {"labels.jsonl": "images", "train.jsonl": "train", "lab/labels.jsonl": ""}


def write(root: Path, labels: str, images: str, kind: str, name="a.jpg", names=("face", "car")):
    (root / images).mkdir(parents=True, exist_ok=True)
    (root / labels).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (80, 60)).save(root / images / name)
    if kind == "coco":
        document = {
            "images": [{"id": 1, "file_name": name}],
            "annotations": [
                {"image_id": 1, "category_id": n, "bbox": [5, 5, 10 * n, 10 * n]} for n in (1, 2)
            ],
            "categories": [{"id": n, "name": category} for n, category in enumerate(names, 1)],
        }
        (root / labels).write_text(json.dumps(document))
    else:
        (root / labels).write_text(json.dumps({"image": name, "faces": [{"box": [5, 5, 15, 15]}]}))


def opened(kind, root, **data):
    data = {"kind": kind, "root": str(root), **data}
    return open_data_sets(TrainingConfig.from_dict({"data": data}))


def faces(source):
    return source.count, source._boxes.tolist()


@pytest.mark.parametrize(
    "kind, labels, images",
    [
        *(("coco", *layout) for layout in COCO_LAYOUTS.items()),
        *(("json", *layout) for layout in JSON_LAYOUTS.items()),
    ],
)
def test_usual_layouts_are_found(tmp_path, kind, labels, images):
    write(tmp_path, labels, images, kind)
    sets = opened(kind, tmp_path)
    assert faces(sets.train) == (1, [[5, 5, 15, 15]])
    assert not sets.validation.images


@pytest.mark.parametrize("word", ["val", "valid"])
def test_validation_images_are_found_beside(tmp_path, word):
    write(tmp_path, "train/_annotations.coco.json", "train", "coco")
    write(tmp_path, f"{word}/_annotations.coco.json", word, "coco", "b.jpg")
    sets = opened("coco", tmp_path)
    assert [image.path for image in sets.validation.images] == [tmp_path / word / "b.jpg"]
    assert not opened("coco", tmp_path, max_validation=0).validation.images


def test_several_files_or_none_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"data\.labels was not found in"):
        opened("coco", tmp_path)
    with pytest.raises(ConfigError, match=r"data\.labels was not found .*data\.root is not set"):
        open_data_sets(TrainingConfig.from_dict({"data": {"kind": "coco"}}))
    with pytest.raises(ConfigError, match="is not a folder"):
        opened("json", tmp_path / "none")
    write(tmp_path, "a.json", "images", "coco")
    write(tmp_path, "b.json", "images", "coco")
    with pytest.raises(ConfigError, match=r"several label files \(a\.json, b\.json\)"):
        opened("coco", tmp_path)
    labels = str(tmp_path / "b.json")
    assert opened("coco", tmp_path, labels=labels).train.count == 1
    data = {"kind": "coco", "labels": labels, "images": str(tmp_path / "images")}
    assert open_data_sets(TrainingConfig.from_dict({"data": data})).train.count == 1


def test_a_category_is_chosen(tmp_path):
    write(tmp_path, "c.json", "images", "coco", names=("head", "car"))
    with pytest.raises(DataError, match=r"'head' \(1\), 'car' \(2\).*data\.category"):
        opened("coco", tmp_path)
    for category in ("car", 2, "2"):
        assert faces(opened("coco", tmp_path, category=category).train) == (1, [[5, 5, 25, 25]])
    with pytest.raises(ConfigError, match=r"category \(face\) goes with coco, yolo"):
        opened("json", tmp_path, category="face")


def test_faces_to_paste_are_read_and_those_that_cannot_be_are_left_out(tmp_path):
    write(tmp_path, "labels.jsonl", "images", "json")
    faces = [{"image": name, "faces": [{"box": [5, 5, 15, 15]}]} for name in ("a.jpg", "b.jpg")]
    (tmp_path / "faces.jsonl").write_text("\n".join(map(json.dumps, faces)))
    data = {"kind": "json", "root": str(tmp_path), "labels": str(tmp_path / "labels.jsonl")}
    data |= {"images": str(tmp_path / "images")}
    values = {"data": data, "augment": {"paste": 0.5}}
    with pytest.raises(ConfigError, match="faces to paste"):
        open_data_sets(TrainingConfig.from_dict(values))
    data |= {"paste": str(tmp_path / "faces.jsonl"), "paste_images": str(tmp_path / "images")}
    sets = open_data_sets(TrainingConfig.from_dict(values))
    assert len(sets.crops) == 1 and len(sets.crops.digest()) == 12
    assert "faces to paste: " in sets.notes[-1] and "1" in sets.notes[-1]
