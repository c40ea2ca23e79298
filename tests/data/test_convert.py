"""Labels go from every format to every other and back, exactly; what a format cannot hold is counted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from retinaface_tf.cli import with_commands
from retinaface_tf.data.convert import convert_labels
from retinaface_tf.data.readers.annotation import AnnotatedImage, ignore_faces
from retinaface_tf.data.readers.registry import READERS, WRITERS, read_labels
from retinaface_tf.errors import ConfigError, DataError

NAMES = ("a.jpg", "sub/b c.jpg", "none.jpg")


@pytest.fixture
def photos(tmp_path):
    """Images in a folder, one of them turned by its EXIF orientation."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (613, 401)).save(folder / NAMES[0], exif=exif)
    Image.new("RGB", (1023, 77)).save(folder / NAMES[1])
    Image.new("RGB", (40, 40)).save(folder / NAMES[2])
    return folder


def labelled(photos: Path, rng, holds) -> list[AnnotatedImage]:
    """Faces of any position, with any subset of points and what else a format can hold."""
    images = []
    for name, count in zip(NAMES, (7, 2, 0)):
        low = rng.uniform(-20, 300, (count, 2))
        boxes = np.concatenate([low, low + rng.uniform(1e-3, 200, (count, 2))], axis=1)
        boxes[:1] = [[0, 0, 17, 0.1]]
        points = rng.uniform(0, 400, (count, 5, 2))
        points[rng.random((count, 5)) < 0.4] = np.nan
        columns = {"*": ("blurred", "by")}.get(holds[-1] if holds else "", holds)
        images.append(
            AnnotatedImage(
                photos / name,
                boxes,
                points if "landmarks" in holds else None,
                rng.random(count) < 0.4 if "ignored" in holds else None,
                scores=rng.random(count) if "scores" in holds else None,
                attributes={
                    column: rng.integers(0, 3, count)
                    for column in columns
                    if column not in ("landmarks", "ignored", "scores")
                },
            )
        )
    return images


def assert_same(found, wanted):
    found = sorted(found, key=lambda image: image.path)
    assert [image.path for image in found] == sorted(image.path for image in wanted)
    for one, other in zip(found, sorted(wanted, key=lambda image: image.path)):
        for name in ("boxes", "landmarks", "ignored", "scores"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        rows = [{k: v for k, v in row.items() if v} for row in one.attribute_rows()]
        assert rows == [{k: v for k, v in row.items() if v} for row in other.attribute_rows()]


def written(images, photos, to, out):
    result = convert_labels(images, photos, to, out)
    for file, text in result.texts.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return read_labels(to, out, photos), result


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", WRITERS)
def test_what_is_written_is_read_the_same(photos, tmp_path, kind, seed):
    images = labelled(photos, np.random.default_rng(seed), WRITERS[kind].holds)
    found, result = written(images, photos, kind, tmp_path / "out")
    assert_same(found, images)
    assert result.lost == {} and result.faces == 9


@pytest.mark.parametrize("kind", WRITERS)
def test_labels_survive_the_way_through_every_format_that_holds_them(photos, tmp_path, rng, kind):
    """Boxes alone go through all; points through all that have points, one after another."""
    holds = ("landmarks",) if "landmarks" in WRITERS[kind].holds else ()
    images = labelled(photos, rng, holds)
    first, _ = written(images, photos, kind, tmp_path / "first")
    for other, writer in WRITERS.items():
        if set(holds) <= set(writer.holds):
            found, _ = written(first, photos, other, tmp_path / other)
            found, _ = written(found, photos, kind, tmp_path / f"{other}.back")
            assert_same(found, images)


def test_what_has_no_place_is_counted_and_ignored_faces_are_left_out(photos, tmp_path):
    image = AnnotatedImage(
        photos / "a.jpg",
        [[1, 2, 30, 40], [50, 60, 70, 90]],
        np.ones((2, 5, 2)),
        [False, True],
        scores=[0.5, np.nan],
        attributes={"blur": [2, np.nan]},
    )
    found, result = written([image], photos, "yolo", tmp_path / "out")
    assert result.lost == {"scores": 1, "ignored": 1, "blur": 1}
    assert found[0].boxes.tolist() == [[1, 2, 30, 40]]
    with pytest.raises(DataError, match=r"none\.png cannot be in a list of FDDB's"):
        convert_labels([AnnotatedImage(photos / "none.png", [])], photos, "fddb", tmp_path)
    with pytest.raises(ConfigError, match="one of wider"):
        convert_labels([], photos, "kitti", tmp_path)


def test_the_command_writes_refuses_and_counts(photos, tmp_path):
    labels, out = tmp_path / "list.txt", tmp_path / "out.json"
    labels.write_text("a.jpg\n2\n1 2 30 40 2 0 0 0 0 0\n50 60 9 9 0 0 0 1 0 0\n")

    def run(*arguments):
        command = ["data", "convert", "wider", str(labels), str(photos), *map(str, arguments)]
        return CliRunner().invoke(with_commands(), command)

    assert run(out, "--to", "coco", "--ignore", "blur=2").exit_code == 0
    (image,) = read_labels("coco", out, photos)
    assert image.ignored.tolist() == [True, True] and image.attributes["blur"].tolist() == [2, 0]
    assert isinstance(run(out, "--to", "coco").exception, ConfigError)
    assert isinstance(run(labels, "--to", "wider", "--overwrite").exception, ConfigError)
    result = run(tmp_path / "yolo", "--to", "yolo")
    assert "yolo has no place for ignored: 1 faces left out" in result.stderr
    assert len((tmp_path / "yolo/a.txt").read_text().splitlines()) == 1


@pytest.mark.parametrize("points", [True, False])
def test_yolo_has_the_file_of_a_pose_data_set_and_replaces_no_other(photos, tmp_path, points):
    source, out = tmp_path / "label.txt", tmp_path / "it's: \u00fc"
    face = "10 10 30 30 12 12 0 30 12 0 20 20 0 14 30 0 28 30 0 0.5" if points else "10 10 30 30"
    source.write_text(f"# a.jpg\n{face}\n# sub/b c.jpg\n5 5 20 20\n")
    command = ["data", "convert", "retinaface", source, photos, out, "--to", "yolo"]

    def run():
        return CliRunner().invoke(with_commands(), list(map(str, command)))

    out.mkdir()
    (out / "data.yaml").write_text("mine")
    assert "data.yaml is there already" in str(run().exception)
    assert [file.read_text() for file in out.iterdir()] == ["mine"]
    (out / "data.yaml").unlink()
    assert run().exit_code == 0
    data = yaml.safe_load((out / "data.yaml").read_text())
    pose = {"kpt_shape": [5, 3], "flip_idx": [1, 0, 2, 4, 3]} if points else {}
    assert data == {"path": str(photos), "train": ".", "val": ".", "names": {0: "face"}} | pose
    # ultralytics takes no data set in which some lines have points and others have none.
    lines = [line for file in out.rglob("*.txt") for line in file.read_text().splitlines()]
    assert [len(line.split()) for line in lines] == [20 if points else 5] * 2
    found = read_labels("yolo", out, photos)
    assert np.isfinite(found[0].landmarks).all() == points


def test_faces_are_ignored_by_their_attributes_in_every_format_that_has_some(tmp_path):
    image = AnnotatedImage(tmp_path / "a", [[0, 0, 1, 1]] * 3, attributes={"blur": [2, 1, np.nan]})
    other = AnnotatedImage(tmp_path / "b", [[0, 0, 1, 1]])
    marked = ignore_faces([image, other], ["blur=2"])
    assert [i.ignored.tolist() for i in marked] == [[True, False, False], [False]]
    assert ignore_faces([image], ["blur"])[0].ignored.tolist() == [True, True, False]
    with pytest.raises(ConfigError, match=r"No face has .*; the labels have blur"):
        ignore_faces([image], ["occlusion"])
    with pytest.raises(ConfigError, match="NAME=LEAST"):
        ignore_faces([image], ["blur=much"])


def test_yolo_as_its_documentation_has_it(photos, tmp_path):
    """Both layouts of docs.ultralytics.com/datasets/pose; images 401 x 613 upright, 1023 x 77."""
    labels = tmp_path / "labels"
    (labels / "sub").mkdir(parents=True)
    (labels / "classes.txt").write_text("face\n")
    two = "0.1 0.1 -1 -1 0.2 0.2 0.1 0.3 0 0"
    three = "0.1 0.1 2 0.3 0.1 1 0 0 0 0.1 0.3 2 0.3 0.3 0"
    (labels / "a.txt").write_text(f"0 0.5 0.5 0.25 0.5 {two}\n0 0.5 0.5 0.2 0.2\n")
    (labels / "sub/b c.txt").write_text(f"0 0.5 0.5 0.25 0.5 {three}\n")
    (labels / "gone.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    a, gone, none, b = READERS["yolo"](labels, photos)
    assert a.path.name == "a.jpg" and len(none.boxes) == 0 and gone.path == photos / "gone.jpg"
    np.testing.assert_allclose(a.boxes[0], [150.375, 153.25, 250.625, 459.75])
    assert np.isfinite(a.landmarks[0, :, 0]).tolist() == [True, False, True, True, False]
    assert np.isnan(a.landmarks[1]).all()
    assert np.isfinite(b.landmarks[0, :, 0]).tolist() == [True, True, False, True, False]
    np.testing.assert_allclose(b.landmarks[0, 1], [306.9, 7.7], rtol=1e-6)
    (labels / "a.txt").write_text("0 0.5 0.5 0.1 0.1\n3 0.5 0.5 0.2 0.2\n")
    with pytest.raises(DataError, match=r"several categories \(0, 3\)"):
        READERS["yolo"](labels, photos)
    assert len(read_labels("yolo", labels, photos, "3")[0].boxes) == 1
    (labels / "a.txt").write_text("0 0.5 0.5 0.1 0.1 0.3\n")
    with pytest.raises(DataError, match=r"a\.txt line 1: 6 numbers"):
        READERS["yolo"](labels, photos)


def test_labelme_points_belong_to_their_group_or_to_the_face_they_lie_in(photos, tmp_path):
    def shape(label, points, kind="rectangle", group=None, flags=None):
        return {
            **{"label": label, "points": points, "group_id": group},
            **{"description": "", "shape_type": kind, "flags": flags or {}},
        }

    shapes = [
        shape("face", [[100.5, 20], [50, 80]]),  # drawn from right to left
        shape(
            "face", [[60, 30], [80, 35], [70, 50]], "polygon", 4, {"ignored": True, "side": True}
        ),
        shape("left_eye", [[70, 40]], "point"),  # in both: of the smaller
        shape("Right-Eye", [[90, 40]], "point"),
        shape("mouth_corner_left", [[0, 0]], "point", 4),
        shape("car", [[0, 0], [9, 9]]),
        shape("wheel", [[1, 1]], "point"),
    ]
    document = {
        **{"version": "5.5.0", "flags": {}, "shapes": shapes, "imageData": None},
        **{"imagePath": "..\\photos\\a.jpg", "imageHeight": 613, "imageWidth": 401},
    }
    (tmp_path / "labels").mkdir()
    file = tmp_path / "labels/a.json"
    file.write_text(json.dumps(document))
    (tmp_path / "labels/coco.json").write_text('{"images": []}')
    (image,) = READERS["labelme"](tmp_path / "labels", photos)
    assert image.path == photos / "a.jpg"
    assert image.boxes.tolist() == [[50, 20, 100.5, 80], [60, 30, 80, 50]]
    assert image.landmarks[0, 1].tolist() == [90, 40] and image.landmarks[1, 0].tolist() == [70, 40]
    assert image.landmarks[1, 3].tolist() == [0, 0] and np.isfinite(image.landmarks).sum() == 6
    assert image.ignored.tolist() == [False, True]
    assert image.attributes["side"].tolist()[1] == 1
    file.write_text(json.dumps(document | {"shapes": shapes[2:3]}))
    with pytest.raises(DataError, match="'left_eye' belongs to no face"):
        READERS["labelme"](file, photos)


def test_voc_as_its_devkit_has_it(photos, tmp_path):
    """Corners name pixels from 1, the last included; the last object is another class."""
    box = "<bndbox><xmin>1</xmin><ymin>11</ymin><xmax>401</xmax><ymax>20.5</ymax></bndbox>"
    part = "<part><name>head</name><bndbox><xmin>9</xmin></bndbox></part>"
    file = tmp_path / "labels/a.xml"
    file.parent.mkdir()
    file.write_text(
        "<annotation><folder>VOC2012</folder><filename>C:\\x\\a.jpg</filename>"
        f"<object>{part}<name>face</name><difficult>1</difficult>{box}</object>"
        f"<object><name>Cat</name>{box}</object></annotation>"
    )
    (image,) = READERS["voc"](tmp_path / "labels", photos)
    assert image.path == photos / "a.jpg" and image.ignored.tolist() == [True]
    assert image.boxes.tolist() == [[0, 10, 401, 20.5]]
    for text in ("<annotation>", "<annotation/>", "no XML", file.read_text().replace("11", "x")):
        file.write_text(text)
        with pytest.raises(DataError, match=r"a\.xml is not Pascal VOC's XML"):
            READERS["voc"](file, photos)


def test_check_finds_images_that_are_kept_for_evaluation_too(tmp_path, rng):
    for folder in ("train", "val"):
        (tmp_path / folder).mkdir()
    noise = [Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)) for _ in range(3)]
    photos = [image.resize((160, 160), Image.Resampling.BICUBIC) for image in noise]
    photos[0].save(tmp_path / "train/a.png")
    photos[1].save(tmp_path / "train/b.png")
    photos[1].resize((120, 120)).save(tmp_path / "val/c.jpg", quality=80)
    photos[2].save(tmp_path / "val/d.png")
    (tmp_path / "label.txt").write_text("# a.png\n9 9 30 30\n# b.png\n9 9 30 30\n")
    command = ["data", "check", "retinaface", str(tmp_path / "label.txt"), str(tmp_path / "train")]
    command += ["--headers", "--against", str(tmp_path / "val")]
    result = CliRunner().invoke(with_commands(), command)
    found = [line for line in result.stdout.splitlines() if line.startswith("also kept")]
    assert found == [
        f"also kept for evaluation: {tmp_path / 'train/b.png'}: {tmp_path / 'val/c.jpg'}"
    ]
    assert result.exit_code == 1
