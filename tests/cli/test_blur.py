"""`retinaface-tf blur`: copies whose faces are blurred, whatever else is in the folder."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from retinaface_tf import cli
from retinaface_tf.images.read import read_image
from retinaface_tf.inference import detector
from tests.helpers.bright_pixel import BrightPixelRuntime, black_image

cli.with_commands()


@pytest.fixture
def run(monkeypatch, tmp_path):
    """The command in a folder of its own, around a network whose answers are known."""
    monkeypatch.setattr(detector, "preset_file", lambda *_, **__: "none")
    monkeypatch.setattr(detector, "open_runtime", lambda *_, **__: BrightPixelRuntime())
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()

    def call(*arguments, **options):
        arguments = ["blur", *map(str, arguments), "--scales", "original"]
        return CliRunner().invoke(cli.app, arguments, **options)

    return call


def photo(path, **options):
    # A white cell is a face of 32 pixels round it.
    Image.fromarray(black_image(128, 192, (8, 4))).save(path, **options)


def test_copies_are_blurred_and_originals_are_not_touched(run):
    photo("in/a.png")
    photo("in/b.jpg", quality=95)
    before = {path: path.read_bytes() for path in Path("in").iterdir()}
    done = run("in", "--out", "out")
    assert done.exit_code == 0, done.output
    assert "2 faces blurred in 2 photos" in done.stdout and "wrote out/a.png: 1 face" in done.stderr
    assert {path: path.read_bytes() for path in Path("in").iterdir()} == before
    for name in ("a.png", "b.jpg"):
        image = read_image(Path("out") / name)
        assert 0 < image[64:72, 32:40].max() < 120 and image[60, 44].any()
        assert not image[:, 100:].max() > 6


def test_a_run_goes_on_and_replaces_only_its_own(run):
    for name in ("a.png", "b.png"):
        photo(Path("in") / name)
    Path("out").mkdir()
    stranger = b"not ours"
    Path("out/a.png").write_bytes(stranger)
    assert run("in", "--out", "out").exit_code == 0
    assert Path("out/a.png").read_bytes() == stranger and Path("out/a_2.png").exists()
    again = run("in", "--out", "out", "--resume")
    assert "0 faces blurred in 0 photos" in again.stdout
    Path("out/b.png").unlink()
    assert "1 face blurred in 1 photo" in run("in", "--out", "out", "--resume").stdout
    assert sorted(p.name for p in Path("out").iterdir()) == ["a.png", "a_2.png", "b.png"]
    # Into the folder of the photos: each copy has a name of its own.
    photos = {path: path.read_bytes() for path in Path("in").iterdir()}
    assert run("in", "--out", "in").exit_code == 0
    assert all(path.read_bytes() == content for path, content in photos.items())
    assert len(list(Path("in").iterdir())) == 4


def test_what_cannot_be_read_is_said_and_the_rest_is_written(run):
    photo("in/a.png")
    Path("in/b.jpg").write_bytes(b"\xff\xd8\xff nothing")
    done = run("in/b.jpg", "in/a.png", "in/none.jpg", "--out", "out")
    assert done.exit_code == 1 and done.stderr.count("error: Cannot read") == 2
    assert [p.name for p in Path("out").iterdir()] == ["a.png"]
    assert run("in/a.png", "--out", "o", "--method", "mosaic").exit_code == 1
    assert not Path("o").exists()


def test_frames_of_an_animation_and_standard_input_are_blurred(run):
    frames = [Image.fromarray(black_image(128, 192, (8, 4 + k))) for k in range(3)]
    frames[0].save("in/a.gif", save_all=True, append_images=frames[1:], duration=50)
    assert "wrote out/a.gif: 3 faces" in run("in", "--out", "out").stderr
    with Image.open("out/a.gif") as after:
        for number in range(3):
            after.seek(number)
            pixels = np.asarray(after.convert("RGB"))
            assert pixels[64:72, 32 + 8 * number : 40 + 8 * number].max() < 120
    photo("in/b.jpg")
    done = run("-", "--out", "out", input=Path("in/b.jpg").read_bytes())
    assert done.exit_code == 0 and "wrote out/stdin.jpg" in done.stderr
