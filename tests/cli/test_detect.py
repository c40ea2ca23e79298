"""`retinaface-tf detect` end to end around a runtime whose answers are known."""

import json
import weakref

import cv2
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from retinaface_tf import cli
from retinaface_tf.cli import detect_run
from retinaface_tf.images import decode
from retinaface_tf.inference import detector
from tests.helpers.bright_pixel import BrightPixelRuntime, black_image

cli.with_commands()


@pytest.fixture
def run(monkeypatch):
    """The command around the network whose answers are known, wherever it comes from."""
    monkeypatch.setattr(detector, "preset_file", lambda *_, **__: "none")
    monkeypatch.setattr(detector, "open_runtime", lambda *_, **__: BrightPixelRuntime())
    return lambda *arguments: CliRunner().invoke(cli.app, ["detect", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    Image.fromarray(black_image(90, 70, (3, 3))).save(folder / "one.png")
    Image.fromarray(black_image(64, 96, (2, 2), (2, 8))).save(folder / "more" / "two.png")
    (folder / "broken.jpg").write_text("this is no image")
    return folder


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_table_for_people(run, folder):
    result = run(folder / "one.png")
    assert result.exit_code == 0
    assert "one.png" in result.stdout and "1 face in 1 image" in result.stdout


def test_json_lines_of_a_folder_with_a_broken_image(run, folder, tmp_path):
    out = tmp_path / "faces.jsonl"
    result = run(folder, "--json", out)
    assert result.exit_code == 1
    by_name = {entry["image"].rsplit("/", 1)[1]: entry for entry in lines(out)}
    assert by_name["one.png"]["faces"][0]["box"] == [12, 12, 44, 44]
    assert by_name["one.png"]["width"] == 70 and by_name["one.png"]["height"] == 90
    assert len(by_name["two.png"]["faces"]) == 2
    assert "broken.jpg" in by_name["broken.jpg"]["error"]
    assert "broken.jpg" in result.stderr
    assert list(tmp_path.glob("*.part")) == []


@pytest.mark.parametrize("options, copies", [((), 1), (("--no-large-faces",), 0)])
def test_the_search_for_close_ups_can_be_left_out(run, monkeypatch, tmp_path, options, copies):
    runtime = BrightPixelRuntime()
    monkeypatch.setattr(detector, "open_runtime", lambda *_, **__: runtime)
    Image.fromarray(black_image(1080, 1920)).save(tmp_path / "large.png")
    assert run(tmp_path / "large.png", *options).exit_code == 0
    assert len(runtime.shapes) == 1 + copies


def test_json_to_standard_output_is_nothing_but_json(run, folder):
    result = run(folder / "one.png", folder / "missing.jpg", "--json", "-")
    entries = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(entries) == 2 and "missing.jpg" in entries[1]["error"]


def test_drawings_and_crops_keep_the_folders_shape(run, folder, tmp_path):
    run(folder, "--draw", tmp_path / "drawn", "--crops", tmp_path / "crops")
    drawn = np.asarray(Image.open(tmp_path / "drawn" / "more" / "two.png"))
    assert drawn.shape == (64, 96, 3)
    crops = sorted(p.relative_to(tmp_path / "crops") for p in (tmp_path / "crops").rglob("*.png"))
    assert [str(c) for c in crops] == ["more/two_000.png", "more/two_001.png", "one_000.png"]
    assert Image.open(tmp_path / "crops" / crops[0]).size == (112, 112)


def test_each_drawn_photo_is_decoded_once_and_not_kept(run, tmp_path, monkeypatch):
    folder, arrays, alive = tmp_path / "many", [], []
    folder.mkdir()
    for number in range(12):
        Image.fromarray(black_image(64, 96, (2, 2))).save(folder / f"{number}.png")
    (folder / "broken.png").write_text("this is no image")
    original, save = decode.decode, detect_run.save_image

    def decode_and_note(stream, *arguments):
        pixels, size = original(stream, *arguments)
        arrays.append((stream.name, weakref.ref(pixels)))
        return pixels, size

    def save_and_count(path, image, **options):
        if path.parent.name == "drawn":
            alive.append(sum(array() is not None for _, array in arrays))
        save(path, image, **options)

    monkeypatch.setattr(decode, "decode", decode_and_note)
    monkeypatch.setattr(detect_run, "save_image", save_and_count)
    outputs = ("--draw", tmp_path / "drawn", "--crops", tmp_path / "crops")
    result = run(folder, *outputs, "--batch-size", 2)
    assert result.exit_code == 1 and "broken.png" in result.stderr
    assert sorted(name for name, _ in arrays) == sorted(str(folder / f"{n}.png") for n in range(12))
    # A batch of them, and the last one of the batch before.
    assert len(alive) == 12 and max(alive) <= 3
    assert len(list((tmp_path / "drawn").iterdir())) == 12


def test_a_video_frame_by_frame(run, tmp_path):
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (96, 64))
    for _ in range(5):
        writer.write(black_image(64, 96, (2, 2)))
    writer.release()
    out = tmp_path / "faces.jsonl"
    result = run(path, "--json", out, "--draw", tmp_path / "drawn", "--frames", 3)
    assert result.exit_code == 0, result.stderr
    entries = lines(out)
    assert [entry["frame"] for entry in entries] == [0, 1, 2]
    assert cv2.VideoCapture(str(tmp_path / "drawn" / "clip.mp4")).read()[0]


@pytest.mark.parametrize(
    "arguments, message",
    [(("--size", "big"), "Size 'big'"), (("--threshold", "2"), "threshold=2.0")],
)
def test_senseless_options_are_one_sentence(run, folder, arguments, message):
    result = run(folder / "one.png", *arguments)
    assert result.exit_code == 1 and message in str(result.exception)


@pytest.mark.parametrize("words, said", [(["presets"], "mobilenet0.25"), (["detect", "."], "")])
def test_a_command_imports_what_it_needs(words, said, tmp_path):
    import subprocess
    import sys

    code = (
        f"import sys; sys.argv = ['retinaface-tf', *{words}]\n"
        "from retinaface_tf.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "others = {'retinaface_tf.cli.train', 'retinaface_tf.bulk'}\n"
        "assert not others & set(sys.modules)\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert said in result.stdout


def test_augmentation_options_search_an_image_in_several_forms(run, folder, tmp_path):
    out = tmp_path / "faces.jsonl"
    options = ("--flip", "--rotations", "--vote", "--tiles", "64")
    result = run(folder / "one.png", "--json", out, *options)
    assert result.exit_code == 0
    (face,) = lines(out)[0]["faces"]
    # The 8-pixel cell around (28, 28), seen eight ways, each half a cell off at most.
    center = (np.array(face["box"][:2]) + face["box"][2:]) / 2
    assert np.abs(center - 28).max() <= 4
    refused = run(folder / "one.png", "--size", "100", "--scales", "100,200")
    assert "exclude" in str(refused.exception)
