"""The lists and configurations of the network with a dense stem."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retinaface_tf.data.readers.registry import label_reader
from retinaface_tf.errors import DataError
from retinaface_tf.training.config import read_config
from retinaface_tf.weights.load import load_weights
from training.dense_stem.lists import make_lists

FOLDER = Path(__file__).resolve().parents[2] / "training/dense_stem"


@pytest.fixture
def photos(tmp_path):
    for folder, count in (("wider_train/event", 24), ("negatives", 12), ("others", 36)):
        (tmp_path / folder).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(
                tmp_path / folder / f"{number}.jpg"
            )
    boxes = [f"event/{n}.jpg\n1\n3 4 10 12 0 0 0 {n % 2} 0 0\n" for n in range(24)]
    (tmp_path / "wider.txt").write_text("".join(boxes))
    face = {"box": [1, 2, 9, 12], "score": 0.5, "ignored": True}
    lines = [{"image": f"others/{n}.jpg", "faces": [face] * (n % 3)} for n in range(36)]
    lines.append({"image": "negatives/0.jpg", "faces": [face]})  # what a teacher took for a face
    (tmp_path / "labels.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return tmp_path


def test_every_photo_is_in_one_list_and_training_reads_it(photos):
    lists = make_lists(photos, photos / "wider.txt", photos / "labels.jsonl")
    assert set(lists) == {
        "train",
        "held_out_wider_train",
        "held_out_negatives",
        "held_out_others",
    }
    names = [record["image"] for records in lists.values() for record in records]
    assert len(names) == len(set(names)) == 24 + 12 + 36
    assert not any(r["faces"] for r in lists["held_out_negatives"])
    path = photos / "train.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in lists["train"]))
    images = {str(i.path.relative_to(photos)): i for i in label_reader("json")(path, photos)}
    assert len(images) == len(lists["train"])
    number = next(n for n in range(1, 24, 2) if f"wider_train/event/{n}.jpg" in images)
    odd = images[f"wider_train/event/{number}.jpg"]
    np.testing.assert_allclose(odd.boxes, [[3, 4, 13, 16]])
    assert odd.ignored.tolist() == [True]  # the list calls it invalid


def test_a_broken_line_is_named(photos):
    (photos / "labels.jsonl").write_text("{}")
    with pytest.raises(DataError, match=r"labels\.jsonl, line 1, is no line"):
        make_lists(photos, photos / "wider.txt", photos / "labels.jsonl")


def test_a_missing_folder_is_named(photos):
    (photos / "negatives").rename(photos / "dogs")
    with pytest.raises(DataError, match="has no folder negatives"):
        make_lists(photos, photos / "wider.txt", photos / "labels.jsonl")


@pytest.mark.parametrize("name", ["stem", "whole", "fixed"])
def test_the_configurations_are_read(name):
    config = read_config(FOLDER / f"{name}.toml")
    assert config.network.backbone == "yunet-dense" and config.distillation.enlarged == 1


def test_the_weights_so_far_start_a_network_of_this_shape():
    network = load_weights(FOLDER / "dense_stem.weights.h5")
    assert network.config == read_config(FOLDER / "fixed.toml").network
