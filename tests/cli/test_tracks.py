"""`detect --track`: the same face has the same number, a line and a crop."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from retinaface_tf import cli
from retinaface_tf.images.read import read_image
from retinaface_tf.inference import detector
from tests.helpers.bright_pixel import BrightPixelRuntime, black_image

cli.with_commands()


@pytest.fixture
def run(monkeypatch, tmp_path):
    monkeypatch.setattr(detector, "preset_file", lambda *_, **__: "none")
    monkeypatch.setattr(detector, "open_runtime", lambda *_, **__: BrightPixelRuntime())
    monkeypatch.chdir(tmp_path)
    # Two faces: one walks to the right and is not found in frames 5 and 6, one stands still.
    writer = cv2.VideoWriter("v.avi", cv2.VideoWriter_fourcc(*"FFV1"), 10, (192, 128))
    for number in range(12):
        spots = [(2, 20), *([(8, 4 + number)] if number not in (5, 6) else [])]
        writer.write(black_image(128, 192, *spots))
    writer.release()

    def call(*arguments):
        return CliRunner().invoke(cli.app, ["detect", *map(str, arguments)])

    return call


def test_numbers_lines_and_crops(run):
    done = run(
        *("v.avi", "--json", "o.jsonl", "--tracks", "t.jsonl", "--best", "best", "--draw", "d"),
        *("--crop-size", "48"),
    )
    assert done.exit_code == 0, done.output
    frames = [json.loads(line) for line in Path("o.jsonl").read_text().splitlines()]
    of_walker = {f["track"] for frame in frames for f in frame["faces"] if f["box"][1] > 40}
    assert len(of_walker) == 1
    tracks = {
        line["track"]: line for line in map(json.loads, Path("t.jsonl").read_text().splitlines())
    }
    assert len(tracks) == 2 and of_walker <= set(tracks)
    walker = tracks[of_walker.pop()]
    assert walker["image"] == "v.avi" and walker["seen"] == 10
    assert (walker["begin"], walker["end"]) == (0, 1.1)
    assert [frame["frame"] for frame in walker["frames"]] == list(range(12))
    assert ["score" in frame for frame in walker["frames"]] == [k not in (5, 6) for k in range(12)]
    left = [frame["box"][0] for frame in walker["frames"]]
    np.testing.assert_allclose(np.diff(left), 8, atol=0.1)  # on a line, the gap too
    for line in tracks.values():
        assert read_image(line["best"]["crop"]).shape == (48, 48, 3)
    assert len(list(Path("best").iterdir())) == 2


def test_without_tracking_there_are_no_numbers(run):
    assert run("v.avi", "--json", "o.jsonl").exit_code == 0
    assert "track" not in Path("o.jsonl").read_text()


def test_what_does_not_go_together_is_refused(run):
    assert "--resume" in str(run("v.avi", "--track", "--json", "a", "--resume").exception)
    Path("t.jsonl").write_text("mine")
    assert "--overwrite" in str(run("v.avi", "--tracks", "t.jsonl").exception)
    assert Path("t.jsonl").read_text() == "mine"
    assert "/dev/stdout" in str(run("v.avi", "--tracks", "-").exception)
    assert "not a time" in str(run("v.avi", "--from", "soon").exception)
    assert "no frames" in str(run("v.avi", "--from", "3", "--to", "2").exception)


def test_a_part_of_a_video_keeps_its_numbers_and_times(run):
    assert run("v.avi", "--from", "0.3", "--to", "0:01", "--every", 2, "--json", "o").exit_code == 0
    frames = [json.loads(line) for line in Path("o").read_text().splitlines()]
    assert [(frame["frame"], frame["time"]) for frame in frames] == [
        (3, 0.3),
        (5, 0.5),
        (7, 0.7),
        (9, 0.9),
    ]
