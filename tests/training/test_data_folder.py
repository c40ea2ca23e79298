"""What is found in a folder of labelled photos, and how it is split."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retinaface_tf.errors import ConfigError
from retinaface_tf.training.command import resolve_config
from retinaface_tf.training.config import TrainingConfig
from retinaface_tf.training.data_folder import find_data
from retinaface_tf.training.datasets import open_data_sets

BOX = [4.0, 4.0, 20.0, 24.0]
TEXTS = {
    "wider": "a.jpg\n1\n4 4 16 20 0 0 0 0 0 0\n",
    "retinaface": "# a.jpg\n4 4 16 20\n",
    "fddb-boxes": "a\n1\n4 4 16 20\n",
    "json": json.dumps({"image": "a.jpg", "faces": [{"box": BOX}]}),
    "coco": json.dumps(
        {
            "images": [{"id": 1, "file_name": "a.jpg"}],
            "annotations": [{"image_id": 1, "category_id": 1, "bbox": [4, 4, 16, 20]}],
            "categories": [{"id": 1, "name": "face"}],
        }
    ),
}
SUFFIX = {"json": ".jsonl", "coco": ".json"}


def write(folder: Path, kind: str, labels: str, photos: str = "") -> Path:
    """A photo and the label file of a format that names it."""
    photo, file = folder / photos / "a.jpg", folder / f"{labels}{SUFFIX.get(kind, '.txt')}"
    for path in (photo, file):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 40)).save(photo)
    file.write_text(TEXTS[kind])
    return file


@pytest.mark.parametrize("kind", ["labelme", "json"])
def test_photos_elsewhere_may_be_named(tmp_path, kind):
    write(tmp_path, "json", "labels/mine", "away")
    if kind == "labelme":
        (tmp_path / "labels/mine.jsonl").unlink()
        shape = {"label": "face", "shape_type": "rectangle", "points": [BOX[:2], BOX[2:]]}
        text = {"shapes": [shape], "imagePath": "a.jpg", "imageWidth": 40, "imageHeight": 40}
        (tmp_path / "labels/a.json").write_text(json.dumps(text))
    labels, photos = str(tmp_path / "labels"), str(tmp_path / "away")
    with pytest.raises(ConfigError, match=r"set data\.images"):
        find_data(labels)
    config = resolve_config(
        "finetune",
        {"data.kind": labels, "epochs": None},
        [f"data.images={photos}", "data.validation_share=0"],
    )
    assert config.data.kind == kind
    assert open_data_sets(config).train._boxes[:1].tolist() == [BOX]


@pytest.mark.parametrize(
    "labels, photos", [("mine", ""), ("mine", "photos"), ("annotations/mine", "images/2024")]
)
@pytest.mark.parametrize("kind", ["wider", "retinaface", "json", "coco"])
def test_labels_and_photos_are_found(tmp_path, kind, labels, photos):
    file = write(tmp_path, kind, labels, photos)
    (tmp_path / "notes.txt").write_text("# what is here\nphotos\n")
    want = {"kind": kind, "labels": str(file), "images": str(tmp_path / photos)}
    want = {f"data.{name}": value for name, value in want.items()}
    assert find_data(str(tmp_path)) == want
    if labels == "mine":  # photos of a file that is named are looked for beside and below it
        assert find_data(str(file)) == want
    options = {"data.kind": str(tmp_path), "epochs": None}
    sets = open_data_sets(resolve_config("finetune", options, ["data.validation_share=0"]))
    assert sets.train._boxes[:1].tolist() == [BOX]


def test_validation_labels_are_told_by_their_path_and_tests_left_out(tmp_path):
    for part in ("train", "valid", "test"):
        write(tmp_path / part, "coco", "_annotations.coco", "")
    found = find_data(str(tmp_path))
    assert found["data.labels"].endswith("train/_annotations.coco.json")
    assert found["data.validation_labels"].endswith("valid/_annotations.coco.json")
    assert found["data.validation_images"] == str(tmp_path / "valid")
    write(tmp_path, "coco", "more")
    with pytest.raises(ConfigError, match=r"several label files .*more\.json.*; name one"):
        find_data(str(tmp_path))


def test_one_list_is_for_training_whatever_its_name_and_runs_are_passed_over(tmp_path):
    file = write(tmp_path, "wider", "interval/wider_face_val_bbx_gt", "interval")
    run = write(tmp_path / "runs", "json", "detections", "")
    (run.parent / "metrics.csv").touch()
    assert find_data(str(tmp_path))["data.labels"] == str(file)


def test_what_is_not_found_is_one_sentence(tmp_path):
    with pytest.raises(ConfigError, match="neither a kind of data nor a file or folder"):
        find_data(str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="no labels of a known format"):
        find_data(str(tmp_path))
    write(tmp_path, "wider", "mine")
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(
        ConfigError, match=r"photos of .*mine\.txt \(a\.jpg \.\.\.\) are not beside"
    ):
        find_data(str(tmp_path))
    options = {"data.kind": None, "epochs": None}
    with pytest.raises(ConfigError, match="--finetune needs --data"):
        resolve_config(None, options, [], finetune="lite")


def test_a_preset_brings_what_suits_it(tmp_path):
    write(tmp_path, "json", "labels")
    options = {"data.kind": str(tmp_path), "epochs": 3}
    config = resolve_config(None, options, [], finetune="lite")
    assert (config.init.source, config.network.backbone, config.epochs) == ("lite", "yunet", 3)
    assert config.match.dynamic and config.loss.box == "ciou"
    other = resolve_config(None, options, ["match.dynamic=false"], finetune="mobilenet0.25")
    assert not other.match.dynamic and other.loss.box == "smooth_l1"
    assert TrainingConfig.from_dict({"network": "lite", "loss": {"box": "diou"}}).loss.box == "diou"


def photos(folder: Path, rng, count: int) -> list[str]:
    """Photos of noise, every third of which is also there smaller and mirrored; lines of labels."""
    lines = []
    for i in range(count):
        blocks = rng.integers(0, 256, (9, 9, 3)).astype(np.uint8)
        image = Image.fromarray(blocks).resize((90, 90), Image.Resampling.BILINEAR)
        image.save(folder / f"{i:02d}.png")
        names = [f"{i:02d}.png"]
        if i % 3 == 0:
            small = image.resize((60, 60)).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            small.save(folder / f"{i:02d}-again.png")
            names.append(f"{i:02d}-again.png")
        lines += [json.dumps({"image": name, "faces": [{"box": BOX}]}) for name in names]
    return lines


def split(folder: Path, **data):
    values = {"kind": "json", "labels": str(folder / "labels.jsonl"), "images": str(folder), **data}
    sets = open_data_sets(TrainingConfig.from_dict({"data": values}))
    names = [sets.train.name(i) for i in range(sets.train.count)]
    return [Path(name).name for name in names], {i.path.name for i in sets.validation.images}


def test_near_duplicates_are_on_one_side_and_stay_there(tmp_path, rng):
    lines = photos(tmp_path, rng, 30)
    (tmp_path / "labels.jsonl").write_text("\n".join(lines[: len(lines) // 2]))
    _, few = split(tmp_path, validation_share=0.25)
    (tmp_path / "labels.jsonl").write_text("\n".join(lines))
    train, held_out = split(tmp_path, validation_share=0.25)
    assert len(train) + len(held_out) == 40 and len(held_out) == 10
    assert not set(train) & held_out
    for name in held_out:
        other = name.replace("-again", "") if "again" in name else name.replace(".", "-again.")
        assert other in held_out or not (tmp_path / other).exists()
    assert len(few) == 5 and len(few & held_out) >= 3
    assert split(tmp_path)[1] == set()


def test_a_small_set_is_gone_through_several_times(tmp_path, rng):
    lines = photos(tmp_path, rng, 3)
    (tmp_path / "labels.jsonl").write_text("\n".join(lines))
    names, _ = split(tmp_path, epoch_images=10)
    assert len(names) == 12 and len(set(names)) == 4


@pytest.mark.parametrize("labels, photos", [("", ""), ("labels/train", "images/train")])
def test_folders_with_a_file_an_image_are_found(tmp_path, labels, photos):
    texts = {
        "yolo": (".txt", "0 0.3 0.35 0.4 0.5\n"),
        "voc": (
            ".xml",
            "<annotation><filename>a.jpg</filename><object><name>face</name><bndbox>"
            f"<xmin>{BOX[0] + 1}</xmin><ymin>{BOX[1] + 1}</ymin>"
            f"<xmax>{BOX[2]}</xmax><ymax>{BOX[3]}</ymax></bndbox></object></annotation>",
        ),
        "labelme": (
            ".json",
            json.dumps(
                {
                    "imagePath": "a.jpg",
                    "shapes": [
                        {
                            "label": "face",
                            "points": [BOX[:2], BOX[2:]],
                            "shape_type": "rectangle",
                        }
                    ],
                }
            ),
        ),
    }
    for kind, (suffix, text) in texts.items():
        root = tmp_path / kind
        for folder in (labels, photos, "labels/val", "images/val"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40)).save(root / photos / "a.jpg")
        (root / labels / f"a{suffix}").write_text(text)
        if labels:
            Image.new("RGB", (40, 40)).save(root / "images/val/a.jpg")
            (root / "labels/val" / f"a{suffix}").write_text(text)
        found = find_data(str(root))
        assert found["data.kind"] == kind
        assert found["data.labels"] == str(root / labels)
        assert found["data.images"] == str(root / photos)
        assert ("data.validation_labels" in found) == bool(labels)
        options = {"data.kind": str(root), "epochs": None}
        sets = open_data_sets(resolve_config("finetune", options, ["data.validation_share=0"]))
        np.testing.assert_allclose(sets.train._boxes[0], BOX)
        assert len(sets.validation.images) == bool(labels)
