"""No output of `data`, `evaluate`, `export`, `weights`, `benchmark` and `training/` replaces an input or a stranger's file.

`tests/cli/test_outputs.py` does the same for `detect`.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import threading
from pathlib import Path
from unittest.mock import create_autospec

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from retinaface_tf import cli
from retinaface_tf.errors import RetinaFaceError
from retinaface_tf.inference import detector
from tests.helpers.bright_pixel import BrightPixelRuntime, black_image

cli.with_commands()
FILES = (
    *("photos/a.jpg", "photos/b.jpg", "wider.txt", "fddb.txt", "pred.jsonl", "points.jsonl"),
    *("coco.json", "pairs.txt", "old.json", "lite.weights.h5"),
)
CHECK = ("data", "check", "wider", "wider.txt", "photos", "--quiet")
PACK = ("data", "pack", "wider", "wider.txt", "photos")
FDDB = ("evaluate", "fddb", "--gt", "fddb.txt", "--pred", "pred.jsonl")
SEARCH = ("evaluate", "fddb", "--gt", "fddb.txt", "--images", "photos")
LANDMARKS = ("evaluate", "landmarks", "--gt", "points.jsonl", "--pred", "pred.jsonl")
CONVERT = ("weights", "convert", "lite.weights.h5")
SYNTH = ("data", "synth")
LABEL = ("data", "pseudo-label", "photos", "--sizes", "64", "--quiet", "--out")


@pytest.fixture
def run(monkeypatch, tmp_path):
    """The commands in a folder with good files, around a network whose answers are known."""
    monkeypatch.setattr(detector, "preset_file", lambda *_, **__: Path("none"))
    monkeypatch.setattr(detector, "open_runtime", lambda *_, **__: BrightPixelRuntime())
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for name in "ab":
        Image.fromarray(black_image(64, 96, (2, 2))).save(f"photos/{name}.jpg", quality=100)
    Path("wider.txt").write_text(
        "a.jpg\n1\n8 8 16 16 0 0 0 0 0 0\nb.jpg\n1\n8 8 16 16 0 0 0 0 0 0\n"
    )
    Path("fddb.txt").write_text("a\n1\n8 6 1.57 16 16 1\nb\n1\n8 6 1.57 16 16 1\n")
    points = [[12, 12], [20, 12], [16, 16], [13, 20], [19, 20]]
    entries = [
        {
            "image": f"{name}.jpg",
            "faces": [{"box": [8, 8, 24, 24], "score": 0.9, "landmarks": points}],
        }
        for name in "ab"
    ]
    for name in ("pred.jsonl", "points.jsonl"):
        Path(name).write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    Path("coco.json").write_text('{"images": [], "annotations": []}')
    Path("pairs.txt").write_text("x")
    Path("old.json").write_text("{}")
    Path("lite.weights.h5").write_text("weights")

    def call(*arguments):
        return CliRunner().invoke(cli.app, [*map(str, arguments)])

    return call


def contents():
    return {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}


def refused(result, *said):
    assert result.exit_code == 1 and isinstance(result.exception, RetinaFaceError), result.output
    for text in said:
        assert text in str(result.exception)


OUTPUTS = [
    (*CHECK, "--json"),
    (*FDDB, "--json"),
    (*SEARCH, "--json"),
    (*LANDMARKS, "--json"),
    (*CONVERT, "--preset", "lite"),
]


@pytest.mark.parametrize("words", OUTPUTS, ids=" ".join)
def test_files_that_are_there_or_cannot_be_are_refused_before_the_work(run, words):
    Path("mine.weights.h5").write_text("mine")
    Path("folder.weights.h5").mkdir()
    before = contents()
    refused(run(*words, "mine.weights.h5"), "mine.weights.h5", "--overwrite")
    refused(run(*words, "folder.weights.h5"), "is a directory")
    refused(run(*words, "wider.txt/x.weights.h5"), "not a directory")
    refused(run(*words, "photos/" + "x" * 250 + ".weights.h5"), "file name too long")
    assert contents() == before


@pytest.mark.parametrize(
    "words, inputs",
    [
        ((*CHECK, "--json"), ["wider.txt", "photos/a.jpg"]),
        ((*FDDB, "--json"), ["fddb.txt", "pred.jsonl"]),
        ((*SEARCH, "--json"), ["fddb.txt", "photos/b.jpg"]),
        ((*LANDMARKS, "--json"), ["points.jsonl", "pred.jsonl", "a.jpg"]),
        ((*CONVERT, "--preset", "lite"), ["lite.weights.h5"]),
    ],
)
def test_inputs_are_never_replaced(run, words, inputs):
    Path("a.jpg").write_bytes(Path("photos/a.jpg").read_bytes())
    before = contents()
    for name in inputs:
        refused(run(*words, name, "--overwrite"), "one of the inputs")
    assert contents() == before


def test_others_files_are_replaced_when_asked(run):
    for words in OUTPUTS[:4]:
        Path("o.json").write_text("mine")
        assert run(*words, "o.json", "--overwrite").exit_code == 0
        assert Path("o.json").read_text() != "mine"


@pytest.fixture
def no_work(monkeypatch):
    """Exports and benchmarks end where their work would begin."""

    def work(*_, **__):
        raise RetinaFaceError("the work began")

    monkeypatch.setattr("retinaface_tf.cli.export.load_source", work)
    monkeypatch.setattr("retinaface_tf.evaluation.speed.measure", work)


@pytest.mark.parametrize(
    "words, name",
    [
        (("export", "tflite"), "o.tflite"),
        (("export", "onnx"), "o.onnx"),
        (("benchmark", "litert", "--json"), "o.json"),
        (("benchmark", "litert", "--gt", "wider.txt", "--images", "photos", "--plot"), "o.png"),
    ],
)
def test_exports_and_benchmarks_replace_nothing(run, no_work, words, name):
    Path(name).write_text("mine")
    Path(f"folder-{name}").mkdir()
    before = contents()
    refused(run(*words, name), f"{name} is there already", "--overwrite")
    refused(run(*words, f"folder-{name}"), "is a directory")
    refused(run(*words, f"wider.txt/{name}"), "not a directory")
    refused(run(*words, "x" * 300 + name), "file name too long")
    refused(run(*words, name, "--overwrite"), "the work began")
    refused(run(*words, f"new-{name}"), "the work began")
    Path(f"link-{name}").symlink_to("lite.weights.h5")
    refused(run(*words, f"link-{name}"), "is there already")
    if words[0] == "export":
        model = ("--model", "lite.weights.h5", "--overwrite")
        refused(run(*words, f"link-{name}", *model), "one of the inputs")
    Path(f"link-{name}").unlink()
    assert contents() == before


@pytest.mark.parametrize(
    "kind, name", [("savedmodel", "m"), ("tflite", "o.tflite"), ("onnx", "o.onnx")]
)
def test_commands_call_the_exports_as_they_are(run, monkeypatch, kind, name):
    module = importlib.import_module(f"retinaface_tf.export.{kind}")
    written = create_autospec(
        getattr(module, f"export_{kind}"), side_effect=lambda _, out, *__, **___: Path(out).touch()
    )
    monkeypatch.setattr(module, f"export_{kind}", written)
    monkeypatch.setattr("retinaface_tf.cli.export.load_source", lambda *_: None)
    result = run("export", kind, name)
    assert result.exit_code == 0 and written.call_count == 1, result.exception


def test_a_pipe_of_detections_is_read(run):
    os.mkfifo("pipe.jsonl")
    writer = threading.Thread(
        target=lambda: Path("pipe.jsonl").write_bytes(Path("pred.jsonl").read_bytes()), daemon=True
    )
    writer.start()
    assert run(*FDDB[:-1], "pipe.jsonl").exit_code == 0


def test_a_version_of_a_savedmodel_is_never_written_twice(run, no_work):
    words = ("export", "savedmodel")
    refused(run(*words, "wider.txt"), "wider.txt is a file")
    refused(run(*words, "wider.txt/x"), "not a directory")
    refused(run(*words, "x" * 300), "file name too long")
    Path("faces/1").mkdir(parents=True)
    Path("faces/2").write_text("mine")
    for version in (1, 2):
        refused(run(*words, "faces", "--version", version), f"faces/{version} exists")
    refused(run(*words, "faces"), "the work began")
    for version in (0, 2**63):
        refused(run(*words, "faces", "--version", version), "must be a positive number")


@pytest.mark.parametrize(
    "script, words, written",
    [
        ("blend", ("old.json", "lite.weights.h5", "o.weights.h5"), "o.weights.h5"),
        (
            "center_scores",
            ("old.json", "o.weights.h5", "--labels", "pred.jsonl", "--images", "photos"),
            "o.weights.h5",
        ),
        ("mesh_decoder", ("--synthetic", "--out", "out"), "out/faces.png"),
        (
            "release",
            ("a", "--preset", "lite", "--calibration", "b", "--out", "out"),
            "out/lite.json",
        ),
    ],
)
def test_scripts_of_training_replace_nothing(run, script, words, written):
    path = Path(__file__).resolve().parents[2] / "training" / f"{script}.py"
    spec = importlib.util.spec_from_file_location(f"script_{script}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    app = typer.Typer()
    app.command()(module.main)
    Path("out").mkdir()
    Path(written).write_text("mine")
    refused(CliRunner().invoke(app, words), f"{written} is there already", "--overwrite")
    if script in ("blend", "center_scores"):
        inputs = [word.replace("o.weights.h5", "old.json") for word in words]
        refused(CliRunner().invoke(app, [*inputs, "--overwrite"]), "one of the inputs")
    assert Path(written).read_text() == "mine"


def test_reports_keep_to_themselves(run):
    assert run(*FDDB, "--json", "a.json", "--report", "r").exit_code == 0
    made = contents()
    for name in ("report.html", "results.json", "roc.png"):
        Path("r2").mkdir(exist_ok=True)
        Path("r2", name).write_text("mine")
        refused(run(*FDDB, "--report", "r2"), f"r2/{name} is there already", "--overwrite")
        assert Path("r2", name).read_text() == "mine"
        Path("r2", name).unlink()
    Path("r2/photo.png").write_text("mine")  # not a file that a report writes
    assert (
        run(*FDDB, "--report", "r2").exit_code == 0 and Path("r2/photo.png").read_text() == "mine"
    )
    refused(run(*FDDB, "--report", "r"), "--overwrite")
    refused(run("evaluate", "report", "a.json", "--out", "r"), "--overwrite")
    # The other results lie in the report's own folder.
    words = (*FDDB, "--report", "r", "--with", "r/results.json", "--overwrite")
    refused(run(*words), "r/results.json is one of the inputs")
    assert {path: content for path, content in contents().items() if path in made} == made
    assert run(*FDDB, "--report", "r", "--with", "a.json", "--overwrite").exit_code == 0
    for place in ("wider.txt", "wider.txt/deep"):
        refused(run(*FDDB, "--report", place), "cannot be made")
    Path("other.json").write_text('{"format": 1, "kind": "landmarks"}')
    refused(run(*FDDB, "--report", "new", "--with", "other.json"), "landmarks, not of fddb")


def test_detections_are_kept_in_their_own_file_alone(run):
    before = contents()
    for name in ("pred.jsonl", "old.json", "photos/a.jpg", "fddb.txt"):
        refused(run(*SEARCH, "--save", name), f"{name} is there already and is not of a run")
    refused(run(*SEARCH, "--save", "photos"), "is a directory")
    refused(run(*SEARCH, "--save", "fddb.txt/x"), "not a directory")
    Path("s.jsonl.settings.json").write_text('{"mine": 1}')
    refused(run(*SEARCH, "--save", "s.jsonl"), "s.jsonl.settings.json is there already")
    Path("s.jsonl.settings.json").unlink()
    assert contents() == before
    for _ in range(2):  # the second goes on
        assert run(*SEARCH, "--save", "s.jsonl").exit_code == 0
    Path("s.jsonl").unlink()  # begun anew
    assert run(*SEARCH, "--save", "s.jsonl").exit_code == 0


def test_damaged_results_are_a_sentence(run):
    assert run(*FDDB, "--json", "a.json").exit_code == 0
    good = json.loads(Path("a.json").read_text())
    for name in good.keys() - {"format"}:
        for value in (None, 5, "x", []):
            Path("b.json").write_text(json.dumps({**good, name: value}))
            for words in (("compare", "a.json", "b.json"), ("report", "b.json", "--out", "r")):
                error = run(
                    "evaluate", *words, *(["--overwrite"] * (words[0] == "report"))
                ).exception
                assert error is None or isinstance(error, (RetinaFaceError, SystemExit)), (
                    name,
                    value,
                )


def test_drawn_images_are_not_drawn_over(run):
    words = (*SYNTH, "s", "--count", 2, "--size", 64, "--quiet")
    assert run(*words).exit_code == 0
    before = contents()
    refused(run(*words, "--seed", 1), "s/label.txt is there already", "--overwrite")
    Path("s/label.txt").unlink()
    refused(run(*words, "--seed", 1), "synthetic-000000.jpg is there already")
    assert run(*words, "--overwrite").exit_code == 0 and contents() == before
    for place in ("wider.txt", "wider.txt/deep"):
        refused(run(*SYNTH, place), "cannot be made")
    assert run(*SYNTH, "t", "--count", 99999999999).exit_code == 2
    refused(run(*SYNTH, "t", "--seed", -1), "synthetic.seed=-1 must be")
    refused(run(*SYNTH, "t", "--min-face", "nan"), "synthetic.min_face=nan must be")


def test_shards_of_other_images_are_not_replaced(run):
    assert run(*PACK, "out", "--quiet").exit_code == 0
    before = contents()
    again = run(*PACK, "out", "--quiet")
    assert again.exit_code == 0 and "1 were there" in again.stdout and contents() == before
    other = ("data", "pack", "fddb-boxes", "boxes.txt", "photos", "out", "--quiet")
    Path("boxes.txt").write_text("a.jpg\n1\n9 9 16 16\n")
    refused(run(*other), "out holds shards of other images or labels", "--overwrite")
    Path("out/manifest.json").unlink()  # as a stopped run leaves it
    refused(run(*other), "is of other images or labels", "--overwrite")
    assert run(*PACK, "out", "--quiet").exit_code == 0
    assert {**contents(), Path("boxes.txt"): b""} == {**before, Path("boxes.txt"): b""}
    Path("web").mkdir()
    Path("web/manifest.json").write_text('{"name": "my page"}')
    refused(run(*PACK, "web", "--quiet"), "web/manifest.json is not of `data pack`", "--overwrite")
    assert Path("web/manifest.json").read_text() == '{"name": "my page"}'
    assert run(*other, "--overwrite").exit_code == 0
    refused(run(*PACK, "wider.txt"), "cannot be made")


def test_a_coco_category_is_chosen(run):
    Path("coco.json").write_text(
        json.dumps(
            {
                "images": [{"id": 1, "file_name": "a.jpg"}],
                "annotations": [
                    {"image_id": 1, "category_id": n, "bbox": [8, 8, 8 * n, 8 * n]} for n in (1, 2)
                ],
                "categories": [{"id": 1, "name": "head"}, {"id": 2, "name": "car"}],
            }
        )
    )
    refused(run("data", "check", "coco", "coco.json", "photos"), "'head' (1), 'car' (2)")
    packed = run("data", "pack", "coco", "coco.json", "photos", "out", "--category", "head")
    assert "1 images with 1 faces" in packed.stdout
    refused(run(*CHECK, "--category", "head"), "goes with coco, yolo")


class NoFace:
    """A landmark model that is sure of no face."""

    def __init__(self, path):
        pass

    def __call__(self, image, rois):
        return np.zeros((len(rois), 468, 3), np.float32), np.zeros(len(rois), np.float32)


def test_mesh_labels_keep_to_their_folder(run, monkeypatch):
    monkeypatch.setattr("retinaface_tf.mesh.landmark_model.FaceLandmarkModel", NoFace)
    words = ("data", "label-mesh", "photos", "--model", "x", "--threshold", 0.05, "--min-side", 1)
    sheet = ("--quiet", "--sheet", "sheet.png", "--out", "lab")
    for _ in range(2):  # the second goes on, and draws its sheet anew
        result = run(*words, *sheet)
        assert result.exit_code == 0, result.output
    assert "2 photos, 4 faces, 0 labelled" in result.stdout
    refused(run(*words, *sheet[:-1], "other"), "sheet.png is there already", "--overwrite")
    os.mkfifo("pipe")
    reader = threading.Thread(target=Path("pipe").read_bytes, daemon=True)
    reader.start()
    assert run(*words, "--quiet", "--sheet", "pipe", "--out", "lab").exit_code == 0
    refused(run(*words, *sheet, "--min-side", 2), "holds labels of other images or settings")


def test_pseudo_labels_keep_to_their_folder(run):
    sheet = ("--sheet", "sheet.png")
    for _ in range(2):  # the second goes on, and draws its sheet anew
        result = run(*LABEL, "lab", *sheet, "--threshold", 0.05)
        assert result.exit_code == 0, result.output
    Path("s.png").write_text("mine")
    refused(run(*LABEL, "lab", "--sheet", "s.png"), "s.png is there already", "--overwrite")
    refused(run(*LABEL, "lab", "--sheet", "photos/a.jpg", "--overwrite"), "one of the inputs")
    refused(run(*LABEL, "lab", "--truth", "json:lab/labels.jsonl"), "one of the inputs")
    for name in ("config.json", "labels.jsonl", "excluded.tsv"):
        Path(f"mine-{name}").mkdir()
        Path(f"mine-{name}", name).write_text("{}")
        refused(run(*LABEL, f"mine-{name}"), f"mine-{name}/{name} is there already", "--overwrite")
        assert [p.name for p in Path(f"mine-{name}").iterdir()] == [name]
        assert Path(f"mine-{name}", name).read_text() == "{}"
    refused(run(*LABEL, "wider.txt/x"), "cannot be made")


def test_a_photo_whose_name_is_no_utf8_is_labelled_and_learnt(run):
    name = os.fsdecode(b"\xff\xe9.jpg")
    Path("photos/a.jpg").rename(Path("photos", name))
    Path("photos/b.jpg").write_bytes(b"broken")
    result = run(*LABEL, "lab", "--threshold", 0.05)
    assert result.exit_code == 0, result.output
    checked = run("data", "check", "json", "lab/labels.jsonl", "photos", "--quiet")
    assert checked.exit_code == 0 and "checked 1 images: no problem" in checked.stdout
    assert np.all([run(*PACK[:2], "json", "lab/labels.jsonl", "photos", "p").exit_code == 0])


def test_numbers_that_cannot_be_are_a_sentence(run):
    """Whatever number an option gets, the answer is a result, a sentence or a usage message."""
    label = (*LABEL[:3], "--quiet", "--sizes", "64", "--out", "lab")
    for words, options in (
        (SEARCH, ("--batch-size", "--threshold", "--iou", "--tiles")),
        (SYNTH, ("--min-face", "--size", "--seed", "--max-faces")),
        (label, ("--threshold", "--accept", "--ignore", "--enlarged-limit", "--batch-size")),
        (("evaluate", "mesh", "--gt", "photos"), ("--held-out", "--threshold")),
    ):
        for option in options:
            for value in ("0", "-1", "nan", "inf", "1e308", "99999999999999999999", ""):
                if words is SYNTH:
                    full = (*SYNTH, "s", "--overwrite", "--quiet", "--count", 1, "--size", 64)
                else:
                    full = words
                error = run(*full, option, value).exception
                known = error is None or isinstance(error, (RetinaFaceError, SystemExit))
                assert known, (words, option, value, error)


ODD = (b"", b"x", b"a\n1\n0 0 0 9 9 1\n", b"a\n1\nnan 1 1 1 1 1\n", b"a\n1\n1e308 1e308 0 9 9 1\n")


@pytest.mark.parametrize("content", [*ODD, b"a\n1\n-5 3 0 9 9 1\n", b"a\n0\n", b"\xff\xfea"])
def test_damaged_truth_is_a_sentence(run, content):
    Path("fddb.txt").write_bytes(content)
    Path("pairs.csv").write_bytes(content)
    Path("folder").mkdir()
    for suffix in ("mat", "pts", "jpg"):
        Path(f"folder/a.{suffix}").write_bytes(content)
    for name in ("face", "easy", "medium", "hard"):
        Path(f"folder/wider_{name}_val.mat").write_bytes(content)
    Path("points.jsonl").write_bytes(content)
    Path("points.xml").write_bytes(content)
    Path("pred.jsonl").write_text(
        '{"image": "a.jpg", "faces": [{"box": [1, 2, 9, 9], "score": 1}]}'
    )
    for words in (
        FDDB,
        SEARCH,
        LANDMARKS,
        ("evaluate", "landmarks", "--gt", "points.xml", "--pred", "pred.jsonl"),
        ("evaluate", "landmarks", "--gt", "folder", "--pred", "pred.jsonl"),
        ("evaluate", "widerface", "--gt", "folder", "--pred", "pred.jsonl"),
        ("evaluate", "mesh", "--gt", "folder"),
        (
            "evaluate",
            "verification",
            "--pairs",
            "pairs.csv",
            "--images",
            "photos",
            "--embedder",
            "x",
        ),
    ):
        error = run(*words).exception
        assert error is None or isinstance(error, RetinaFaceError), (words, error)
