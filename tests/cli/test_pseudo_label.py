"""`data pseudo-label` from the command line."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from retinaface_tf.cli import data
from retinaface_tf.data.readers.json_labels import read_json_labels
from retinaface_tf.errors import WeightsError


def run(*arguments):
    result = CliRunner().invoke(data.app, ["pseudo-label", *map(str, arguments), "--quiet"])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def photos(tmp_path, astronaut):
    folder = tmp_path / "photos"
    (folder / "nasa").mkdir(parents=True)
    cv2.imwrite(str(folder / "nasa/one.png"), astronaut[..., ::-1])
    cv2.imwrite(str(folder / "nasa/two.png"), astronaut[:, ::-1, ::-1])
    (folder / "bad.jpg").write_bytes(b"no image")
    (tmp_path / "kept").mkdir()
    return folder


def test_photos_are_labelled_compared_drawn_and_repeats_left_out(photos, tmp_path, astronaut):
    truth = tmp_path / "truth.txt"
    truth.write_text("nasa/one.png\n1\n180 62 92 116\nnasa/two.png\n1\n10 300 50 50\n")
    out, sheet = tmp_path / "labels", tmp_path / "sheet.png"
    options = ["--out", out, "--sizes", "256,400", "--truth", f"wider:{truth}", "--sheet", sheet]
    result = run(photos, *options)
    assert "2 photos: 2 faces (2 with five points), 0 ignored" in result.output
    assert "1 unreadable" in result.output and "precision 50.0%" in result.output
    one, two = read_json_labels(out / "labels.jsonl", photos)
    mirrored = 512 - two.landmarks[0][[1, 0, 2, 4, 3], 0]
    np.testing.assert_allclose(one.landmarks[0][:, 0], mirrored, atol=0.1)
    assert sheet.is_file()

    # A photo of an evaluation, smaller and mirrored: both copies of it go.
    cv2.imwrite(str(tmp_path / "kept/x.jpg"), cv2.resize(astronaut, (300, 200))[:, ::-1, ::-1])
    cv2.imwrite(str(photos / "nasa/dark.png"), np.full((256, 300, 3), 9, np.uint8))
    result = run(
        photos, "--out", tmp_path / "clean", "--sizes", 256, "--exclude", tmp_path / "kept"
    )
    assert "1 photos: 0 faces" in result.output and "2 repeats" in result.output
    assert "repeats" in (tmp_path / "clean/excluded.tsv").read_text()


def test_a_member_that_is_not_there_is_named(photos, tmp_path):
    with pytest.raises(WeightsError, match=r"none\.onnx"):
        run(photos, "--out", tmp_path, "--member", f"yunet:{tmp_path}/none.onnx")
