"""`retinaface-tf evaluate` end to end on small made sets, around a runtime whose answers are known."""

import json

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from typer.testing import CliRunner

from retinaface_tf import cli
from retinaface_tf.errors import RetinaFaceError
from retinaface_tf.inference import detector
from retinaface_tf.weights import choose_file
from tests.helpers.bright_pixel import BrightPixelRuntime, black_image
from tests.helpers.squares import SquaresRuntime, squares

cli.with_commands()

# The bright pixel's "face" at (row, column): the anchor of size 32 around the cell's centre.
SPOTS = {"one": [(3, 3)], "two": [(2, 2), (2, 8)]}


def box_at(row, column, height=64, width=96):
    x, y = 8 * column + 4, 8 * row + 4
    x1, y1, x2, y2 = max(x - 16, 0), max(y - 16, 0), min(x + 16, width), min(y + 16, height)
    return [x1, y1, x2 - x1, y2 - y1]


@pytest.fixture
def run(monkeypatch, tmp_path):
    for room in (detector, choose_file):
        monkeypatch.setattr(room, "preset_file", lambda *_, **__: tmp_path / "none")
    monkeypatch.setattr(detector, "open_runtime", lambda *_, **__: BrightPixelRuntime())
    return lambda *arguments: CliRunner().invoke(cli.app, ["evaluate", *map(str, arguments)])


@pytest.fixture
def wider(tmp_path):
    """An event of two images, with the four .mat files in the official layout."""
    images, gt = tmp_path / "images" / "0--event", tmp_path / "gt"
    images.mkdir(parents=True)
    gt.mkdir()

    def cells(values):
        column = np.empty((len(values), 1), object)
        for i, value in enumerate(values):
            column[i, 0] = value
        return column

    names, boxes = list(SPOTS), []
    for name, spots in SPOTS.items():
        Image.fromarray(black_image(64, 96, *spots)).save(images / f"{name}.png")
        boxes.append(np.array([box_at(*spot) for spot in spots]))
    labels = cells([cells([np.zeros((len(b), 1), int) for b in boxes])])
    base = {
        "event_list": cells(["0--event"]),
        "file_list": cells([cells(names)]),
        "face_bbx_list": cells([cells(boxes)]),
        **{f"{a}_label_list": labels for a in ("blur", "occlusion", "pose")},
    }
    savemat(gt / "wider_face_val.mat", base)
    for subset, listed in (
        ("easy", [[[1]], [[1]]]),
        ("medium", [[[1]], [[2]]]),
        ("hard", [[[1]], [[1], [2]]]),
    ):
        gt_list = cells([cells([np.array(i) for i in listed])])
        savemat(gt / f"wider_{subset}_val.mat", {**base, "gt_list": gt_list})
    return images.parent, gt


def test_widerface_runs_a_detector_writes_everything_and_reads_its_own_files(run, wider, tmp_path):
    images, gt = wider
    out = tmp_path / "out"
    result = run(
        "widerface", "--gt", gt, "--images", images, "--json", out / "a.json", "--report",
        out / "report", "--save", out / "run.jsonl", "--submission", out / "txt", "--name", "mine",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    figures = json.loads((out / "a.json").read_text())
    assert figures["ap"] == {"easy": 1.0, "medium": 1.0, "hard": 1.0}
    assert figures["faces"] == {"easy": 2, "medium": 2, "hard": 3}
    assert figures["made"]["runtime"] == "test"
    assert "100.00" in result.output
    assert (out / "report" / "report.html").is_file()
    for pred in (out / "run.jsonl", out / "txt"):
        again = run(
            "widerface", "--gt", gt, "--pred", pred, "--json", out / "b.json", "--overwrite"
        )
        assert again.exit_code == 0
        assert json.loads((out / "b.json").read_text())["ap"] == figures["ap"]
    compared = run("compare", out / "a.json", out / "b.json", "--rounds", 10)
    assert compared.exit_code == 0
    assert "+0.00" in compared.output
    assert run("report", out / "a.json", out / "b.json", "--out", out / "both").exit_code == 0


def test_augmentation_reaches_the_detector(run, wider, tmp_path):
    images, gt = wider
    json_file = tmp_path / "a.json"
    result = run(
        "widerface", "--gt", gt, "--images", images, "--scales", "64,original", "--flip", "--vote",
        "--json", json_file,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    figures = json.loads(json_file.read_text())
    assert figures["made"]["scales"] == [64, "original"]
    assert figures["made"]["flip"] and figures["made"]["vote"]
    assert figures["ap"]["hard"] > 0.6


def test_zoom_reaches_the_detector(run, tmp_path, monkeypatch):
    """A square that the first look is unsure of counts in full where it is looked at again."""
    monkeypatch.setattr(detector, "open_runtime", lambda *_, **__: SquaresRuntime())
    (tmp_path / "2002").mkdir()
    image = squares(240, 320, (100, 60, 10), (200, 100, 40))
    Image.fromarray(image).save(tmp_path / "2002" / "a.png")
    gt = tmp_path / "FDDB-fold-01-ellipseList.txt"
    gt.write_text("2002/a\n2\n5 5 0 105 65  1\n20 20 0 220 120  1\n")
    made = []
    for options in ((), ("--zoom", "auto", "--budget", "4")):
        out = tmp_path / f"{len(made)}.json"
        command = ("fddb", "--gt", gt, "--images", tmp_path, "--threshold", "0.5", "--json", out)
        result = run(*command, *options)
        assert result.exit_code == 0, result.output
        figures = json.loads(out.read_text())
        made.append((figures["end"]["discrete"], figures["made"].get("zoom")))
    assert made == [(0.5, None), (1.0, "auto")]


def test_part_of_a_set_is_judged_only_when_asked(run, wider):
    images, gt = wider
    (images / "0--event" / "one.png").unlink()
    refused = run("widerface", "--gt", gt, "--images", images)
    assert isinstance(refused.exception, RetinaFaceError)
    assert "1 of 2 images; add --partial" in str(refused.exception)
    allowed = run("widerface", "--gt", gt, "--images", images, "--partial")
    assert allowed.exit_code == 0
    assert "1 of 2 images" in allowed.output


def test_missing_images_are_counted_and_said(run, wider, tmp_path):
    _, gt = wider
    (tmp_path / "txt" / "0--event").mkdir(parents=True)
    (tmp_path / "txt" / "0--event" / "two.txt").write_text("two\n0\n")
    result = run("widerface", "--gt", gt, "--pred", tmp_path / "txt")
    assert "1 images are missing" in result.output
    assert isinstance(run("widerface", "--gt", gt).exception, RetinaFaceError)


def test_fddb_judges_the_listed_images(run, tmp_path):
    folder = tmp_path / "2002" / "big"
    folder.mkdir(parents=True)
    ellipses = []
    for name, spots in SPOTS.items():
        Image.fromarray(black_image(64, 96, *spots)).save(folder / f"{name}.png")
        ellipses += [f"2002/big/{name}", str(len(spots))]
        for spot in spots:
            x, y, w, h = box_at(*spot)
            ellipses.append(f"{h / 2} {w / 2} 1.5708 {x + w / 2} {y + h / 2}  1")
    gt = tmp_path / "FDDB-fold-01-ellipseList.txt"
    gt.write_text("\n".join(ellipses) + "\n")
    out = tmp_path / "fddb.json"
    result = run(
        "fddb", "--gt", gt, "--images", tmp_path, "--json", out, "--report", tmp_path / "r"
    )
    assert result.exit_code == 0, result.output
    figures = json.loads(out.read_text())
    assert (figures["faces"], figures["end"]["discrete"]) == (3, 1.0)
    assert figures["end"]["continuous"] == pytest.approx(np.pi / 4, abs=1e-4)
    (tmp_path / "list.txt").write_text("2002/big/one.png\n1\n1 2 3 4\n")
    result = run("fddb", "--gt", gt, "--images", tmp_path, "--list", tmp_path / "list.txt")
    assert "1 images, 1 faces" in result.output


def test_landmarks_are_measured_and_a_mirrored_truth_is_told(run, tmp_path):
    lines = []
    for name, spots in SPOTS.items():
        Image.fromarray(black_image(64, 96, *spots)).save(tmp_path / f"{name}.png")
        faces = []
        for spot in spots:
            x, y, w, h = box_at(*spot)
            # All five points of the bright pixel's face lie at its centre; the truth around it.
            center = np.array([8 * spot[1] + 4, 8 * spot[0] + 4])
            offsets = np.array([[2, -2], [-2, -2], [0, 0], [2, 2], [-2, 2]])
            faces.append({"box": [x, y, x + w, y + h], "landmarks": (center + offsets).tolist()})
        lines.append(json.dumps({"image": f"{name}.png", "faces": faces}))
    gt = tmp_path / "truth.jsonl"
    gt.write_text("\n".join(lines))
    out = tmp_path / "landmarks.json"
    result = run("landmarks", "--gt", gt, "--json", out, "--report", tmp_path / "r")
    assert result.exit_code == 0, result.output
    figures = json.loads(out.read_text())
    sizes = [np.sqrt(np.prod(box_at(*spot)[2:])) for spots in SPOTS.values() for spot in spots]
    expected = np.mean([4 / 5 * np.sqrt(8) / size for size in sizes])
    assert figures["nme"] == pytest.approx(expected, rel=1e-4)
    assert figures["found"] == 3
    assert "right to left on 100 %" in result.output


def mean_colour_embedder(path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper = onnx.helper
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["x"], ["y"], axes=[1, 2], keepdims=0)],
        "mean",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 16, 16, 3])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 3])],
    )
    opset = helper.make_opsetid("", 13)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)


@pytest.fixture
def people(tmp_path):
    """Ten people of one hue each, two images of each, and an embedder that sees the colour."""
    rng = np.random.default_rng(0)
    for person, hue in enumerate(np.arange(10) * np.pi / 5):
        color = 125 + 90 * np.cos(hue + np.arange(3) * 2 * np.pi / 3)
        for number in (1, 2):
            image = np.full((64, 64, 3), color, np.float64)
            image += rng.normal(0, 3, image.shape)
            name = tmp_path / "lfw" / f"P{person}" / f"P{person}_{number:04d}.jpg"
            name.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(name)
    mean_colour_embedder(tmp_path / "mean.onnx")
    return tmp_path


def test_verification_tells_people_apart(run, people):
    rows = ["2\t5"]
    for start in (0, 5):
        rows += [f"P{p}\t1\t2" for p in range(start, start + 5)]
        rows += [f"P{p}\t1\tP{(p + 3) % 10}\t2" for p in range(start, start + 5)]
    (people / "pairs.txt").write_text("\n".join(rows))
    out = people / "v.json"
    result = run(
        "verification", "--pairs", people / "pairs.txt", "--images", people / "lfw", "--embedder",
        people / "mean.onnx", "--align", "none", "--mirror", "--json", out,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    figures = json.loads(out.read_text())
    assert (figures["accuracy"], figures["tar"]["0.1"]) == (1.0, 1.0)
    assert figures["tar"]["0.01"] is None
    # No bright pixel, no face: the central squares are taken, and that is said.
    result = run(
        "verification", "--pairs", people / "pairs.txt", "--images", people / "lfw", "--embedder",
        people / "mean.onnx",
    )  # fmt: skip
    assert "No face was found in 20 of 20 images" in result.output


def test_templates_are_verified_as_in_ijbc(run, people):
    faces, pairs = [], []
    for person in range(10):
        for number in (1, 2):
            faces.append(f"P{person}/P{person}_{number:04d}.jpg {10 * person + number} {number}")
        pairs.append(f"{10 * person + 1} {10 * person + 2} 1")
        pairs += [f"{10 * person + 1} {10 * ((person + 4) % 10) + 2} 0"] * 2
    (people / "tid_mid.txt").write_text("\n".join(faces))
    (people / "label.txt").write_text("\n".join(pairs))
    arguments = (
        "verification", "--pairs", people / "label.txt", "--templates", people / "tid_mid.txt",
        "--images", people / "lfw", "--embedder", people / "mean.onnx", "--align", "none",
    )  # fmt: skip
    result = run(*arguments, "--json", people / "t.json")
    assert result.exit_code == 0, result.output
    assert json.loads((people / "t.json").read_text())["accuracy"] == 1.0
    (people / "label.txt").write_text("1 99 0\n")
    assert "template 99" in str(run(*arguments).exception)
