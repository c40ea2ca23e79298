"""The files of `detect --coco`, `--yolo` and the others hold what was found, and replace nothing."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from retinaface_tf import cli
from retinaface_tf.bulk.results import read_results
from retinaface_tf.data.readers.registry import WRITERS, read_labels
from retinaface_tf.errors import ConfigError, DataError
from retinaface_tf.faces.faces import Faces
from retinaface_tf.faces.json_lines import read_face_lines
from retinaface_tf.inference import detector
from tests.helpers.bright_pixel import BrightPixelRuntime, black_image

cli.with_commands()
FORMATS = {"coco": "c.json", "yolo": "y", "labelme": "l", "voc": "v"}
TABLES = ("--csv", "f.csv", "--parquet", "f.parquet")
ALL = [word for kind, place in FORMATS.items() for word in (f"--{kind}", place)] + [*TABLES]


@pytest.fixture
def run(monkeypatch, tmp_path):
    monkeypatch.setattr(detector, "preset_file", lambda *_, **__: "none")
    monkeypatch.setattr(detector, "open_runtime", lambda *_, **__: BrightPixelRuntime())
    monkeypatch.chdir(tmp_path)
    Path("p/sub").mkdir(parents=True)
    for name, spots in {"a.png": [(2, 2), (5, 9)], "sub/b.jpg": [(3, 3)], "none.png": []}.items():
        Image.fromarray(black_image(64, 96, *spots)).save(f"p/{name}", quality=100)
    Path("p/broken.jpg").write_bytes(b"x")
    return lambda *words: CliRunner().invoke(cli.app, ["detect", *map(str, words)])


def test_the_readers_read_what_was_found(run):
    assert run("p", "--json", "o.jsonl", *ALL).exit_code == 1  # one image is broken
    lines = {line.image: line for line in read_face_lines("o.jsonl") if line.error is None}
    assert [len(line.boxes) for line in lines.values()] == [2, 0, 1]
    for kind, place in FORMATS.items():
        images = read_labels(kind, Path(place), Path("p"))
        assert {str(i.path) for i in images} - {"p/broken.jpg"} == set(lines), kind
        for image in images:
            if image.path.name == "broken.jpg":  # YOLO's reader lists the folder
                continue
            line = lines[str(image.path)]
            np.testing.assert_allclose(image.boxes, line.boxes, rtol=1e-6)
            if "landmarks" in WRITERS[kind].holds:
                np.testing.assert_allclose(image.landmarks, line.landmarks, rtol=1e-6)
            if "scores" in WRITERS[kind].holds:
                np.testing.assert_allclose(image.scores, line.scores, rtol=1e-6)
    assert Path(json.loads(Path("l/sub/b.json").read_text())["imagePath"]) == Path(
        "../../p/sub/b.jpg"
    )
    rows = list(csv.DictReader(Path("f.csv").read_text().splitlines()))
    assert [row["image"] for row in rows] == ["p/a.png", "p/a.png", "p/sub/b.jpg"]
    assert float(rows[2]["left_mouth_corner_y"]) == lines["p/sub/b.jpg"].landmarks[0, 3, 1]
    found = list(read_results("f.parquet"))
    assert [r.image for r in found if isinstance(r.answer, Faces)] == list(lines)
    assert "broken" in str(next(r.answer for r in found if not isinstance(r.answer, Faces)))


def test_a_run_that_goes_on_has_all_images_in_its_labels(run):
    run("p", "--json", "o.jsonl", "--coco", "c.json")
    whole = Path("c.json").read_text()
    for lines in (0, 1, 3):
        kept = Path("o.jsonl").read_text().splitlines(True)[:lines]
        Path("part.jsonl").write_text("".join(kept))
        run("p", "--json", "part.jsonl", "--resume", "--coco", f"{lines}.json")
        assert Path(f"{lines}.json").read_text() == whole


@pytest.mark.parametrize(
    "words, error, said",
    [
        (("p/a.png", "--coco", "p/a.png", "--overwrite"), ConfigError, "one of the inputs"),
        (("p/a.png", "--csv", "mine.csv"), ConfigError, "mine.csv is there already"),
        (("p/a.png", "--yolo", "mine.csv"), ConfigError, "Cannot write mine.csv/a.txt"),
        (("p/\x01.jpg", "--voc", "v"), DataError, "XML cannot hold the name"),
        (("p/a.png", "p/a.jpg", "--voc", "v"), DataError, "Two images would have the labels"),
        (("p/a.png", "--json", "o", "--csv", "./o"), ConfigError, "o is named twice"),
        (("p/a.png", "--coco", "l/a.json", "--labelme", "l"), ConfigError, "named twice"),
        (("v.avi", "--tracks", "o", "--csv", "o"), ConfigError, "o is named twice"),
        (("v.avi", "--labelme", "l"), ConfigError, "--labelme is of images"),
        (("p", "--coco", "c", "--engine", "loop", "--out", "d"), ConfigError, "--coco"),
    ],
)
def test_what_cannot_be_written_is_said_before_the_search(run, words, error, said):
    Image.fromarray(black_image(64, 96)).save("p/a.jpg")
    Path("mine.csv").write_text("x")
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    done = run(*words)
    assert isinstance(done.exception, error) and said in str(done.exception), done.exception
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


def test_frames_of_videos_have_rows_in_the_table(run):
    writer = cv2.VideoWriter("v.avi", cv2.VideoWriter_fourcc(*"FFV1"), 10, (96, 64))
    for _ in range(3):
        writer.write(black_image(64, 96, (2, 2)))
    writer.release()
    assert run("v.avi", "--csv", "f.csv").exit_code == 0
    rows = list(csv.DictReader(Path("f.csv").read_text().splitlines()))
    assert [(row["frame"], row["time"]) for row in rows] == [
        ("0", "0.0"),
        ("1", "0.1"),
        ("2", "0.2"),
    ]


def test_images_of_several_folders_are_named_as_they_were_given(run):
    run("p/a.png", "p/sub/b.jpg", "--coco", "c.json", "--voc", "v")
    names = [image["file_name"] for image in json.loads(Path("c.json").read_text())["images"]]
    assert names == ["p/a.png", "p/sub/b.jpg"]
    assert sorted(path.name for path in Path("v").iterdir()) == ["a.xml", "b.xml"]


def test_a_table_goes_to_standard_output(run):
    done = run("p/a.png", "--csv", "-")
    assert [row["image"] for row in csv.DictReader(done.stdout.splitlines())] == ["p/a.png"] * 2
    assert len(json.loads(run("p/a.png", "--coco", "-").stdout)["annotations"]) == 2
    assert run("p/a.png", "--parquet", "-").stdout_bytes.startswith(b"PAR1")
    assert "takes one of" in str(run("p/a.png", "--csv", "-", "--json", "-").exception)
    assert "needs a folder" in str(run("p/a.png", "--voc", "-").exception)
    assert not Path("-").exists()
