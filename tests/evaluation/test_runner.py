"""A detector run over a folder: answers kept as they come, a stopped run goes on."""

import json

import numpy as np
import pytest
from PIL import Image

from retinaface_tf import RetinaFace
from retinaface_tf.errors import ConfigError
from retinaface_tf.evaluation.runner import find_images, run_detector
from tests.helpers.bright_pixel import BrightPixelRuntime, black_image

SETTINGS = {"weights": "none", "threshold": 0.5, "scales": ["original"]}


@pytest.fixture
def images(tmp_path):
    for name, spots in (("a", [(3, 3)]), ("b", [(2, 2), (2, 8)]), ("c", [])):
        (tmp_path / "0--e").mkdir(exist_ok=True)
        Image.fromarray(black_image(64, 96, *spots)).save(tmp_path / "0--e" / f"{name}.png")
    return {f"0--e/{name}": tmp_path / "0--e" / f"{name}.png" for name in "abc"}


def test_a_stopped_run_goes_on_where_it_was(images, tmp_path):
    save = tmp_path / "run.jsonl"
    done = []
    first = RetinaFace(BrightPixelRuntime())
    whole = run_detector(first, images, settings=SETTINGS, save=save, advance=done.append)
    assert [len(whole[key].scores) for key in images] == [1, 2, 0]
    assert sum(done) == 3
    lines = save.read_text().splitlines(keepends=True)
    # Stopped in the middle of the second line.
    save.write_text(lines[0] + lines[1][:30])
    second = RetinaFace(BrightPixelRuntime())
    again = run_detector(second, images, settings=SETTINGS, save=save)
    assert sum(shape[0] for shape in second.runtime.shapes) == 2
    assert save.read_text() == "".join(lines)
    for key in images:
        np.testing.assert_allclose(again[key].boxes, whole[key].boxes, atol=1e-3)


def test_a_run_with_other_settings_does_not_go_on(images, tmp_path):
    save = tmp_path / "run.jsonl"
    detector = RetinaFace(BrightPixelRuntime())
    run_detector(detector, images, settings=SETTINGS, save=save)
    with pytest.raises(ConfigError, match="scales"):
        run_detector(detector, images, settings={**SETTINGS, "scales": [500]}, save=save)


def test_unreadable_images_are_reported_and_have_no_detections(images, tmp_path):
    images["0--e/c"].write_bytes(b"broken")
    messages, save = [], tmp_path / "run.jsonl"
    found = run_detector(
        RetinaFace(BrightPixelRuntime()),
        images,
        settings=SETTINGS,
        save=save,
        report=messages.append,
    )
    assert len(found["0--e/c"].scores) == 0
    assert len(messages) == 1 and "c.png" in messages[0]
    assert "error" in json.loads(save.read_text().splitlines()[2])


def test_images_are_found_by_the_sets_names(images, tmp_path):
    known = {"0--e/a", "0--e/zz"}
    assert list(find_images(tmp_path, known)) == ["0--e/a"]
    assert list(find_images(tmp_path / "0--e", known)) == ["0--e/a"]
    with pytest.raises(ConfigError, match="No image"):
        find_images(tmp_path, {"1--x/y"})
