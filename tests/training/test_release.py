"""From trained weights to packaged files."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from retinaface_tf.errors import ConfigError, WeightsError
from retinaface_tf.faces.faces import Faces
from retinaface_tf.sources.packaged import file_names
from training.release import compare_faces, main, release


def _faces(*boxes, score=0.9):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    return Faces(
        boxes=boxes,
        scores=np.full(len(boxes), score, np.float32),
        landmarks=np.repeat(centers[:, None], 5, axis=1),
        image_size=(300, 300),
    )


def test_the_same_faces_agree_in_any_order():
    first, second = [0, 0, 100, 100], [150, 150, 250, 250]
    agreement = compare_faces(
        _faces(first, second), _faces(second, [0, 0, 100, 98], score=0.89), "float32", "x"
    )
    assert (agreement["faces"], agreement["least_iou"]) == (2, 0.98)
    assert agreement["score_change"] == pytest.approx(0.01, abs=1e-4)
    assert agreement["point_change"] == pytest.approx(0.01, abs=1e-4)


@pytest.mark.parametrize(
    "found, message",
    [
        (_faces([0, 0, 100, 100], [0, 0, 50, 50]), "finds 2 faces where the weights find 1"),
        (_faces([0, 0, 100, 90]), "IoU 0.90"),
        (_faces([0, 0, 100, 100], score=0.5), "differ by 0.40"),
    ],
)
def test_other_faces_do_not(found, message):
    with pytest.raises(WeightsError, match=f"{message}.*nothing was written"):
        compare_faces(_faces([0, 0, 100, 100]), found, "float32", "x")


def test_int8_may_differ_a_little_more():
    compare_faces(_faces([0, 0, 100, 100]), _faces([0, 0, 100, 90], score=0.8), "int8", "x")


def test_nothing_is_written_where_nothing_can_be_compared(public_weights, tmp_path, photos):
    blank = np.full((64, 64, 3), 128, np.uint8)
    for preset, folder, error in (
        ("mobilenet0.25", tmp_path / "nowhere", ConfigError),
        ("mobilenet0.5", photos, WeightsError),
    ):
        with pytest.raises(error):
            release(public_weights, preset, folder, blank, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Nine pieces of a portrait."""
    astronaut = pytest.importorskip("skimage.data").astronaut()
    folder = tmp_path_factory.mktemp("photos")
    for i in range(9):
        top, left = 60 * (i // 3), 60 * (i % 3)
        Image.fromarray(astronaut[top : top + 380, left : left + 380]).save(folder / f"{i}.png")
    return folder


@pytest.mark.slow
def test_the_command_makes_files_that_describe_themselves(public_weights, photos, tmp_path):
    import typer

    app = typer.Typer()
    app.command()(main)
    out = tmp_path / "files"
    options = ["--preset", "mobilenet0.25", "--calibration", photos, "--stem", "pub", "--out", out]
    told = ["--figure", "AP, x = 0.5", "--fact", "hours=9 = a night"]
    result = CliRunner().invoke(app, [*map(str, [public_weights, *options]), *told])
    assert result.exit_code == 0, result.exception

    assert {path.name for path in out.iterdir()} == set(file_names("pub").values())
    facts = json.loads((out / "pub.json").read_text())
    assert facts["figures"] == {"AP, x": "0.5"} and facts["facts"] == {"hours": "9 = a night"}
    assert facts["check"]["pub.tflite"]["least_iou"] > 0.99
    assert facts["check"]["pub-int8.tflite"]["faces"] == 1
    assert facts["files"]["pub.weights.npz"]["bytes"] < 0.5 * public_weights.stat().st_size
    from retinaface_tf.modelfile.metadata import read_checked

    for name, precision in (("pub.tflite", "float32"), ("pub-int8.tflite", "int8")):
        metadata = read_checked(out / name)[1]
        assert (metadata.precision, metadata.preset) == (precision, "mobilenet0.25")
        assert metadata.resizable and metadata.input_size == (640, 640)
    blank = np.full((64, 64, 3), 128, np.uint8)
    with pytest.raises(WeightsError, match="finds no face"):
        release(public_weights, "mobilenet0.25", photos, blank, out=tmp_path / "none")
    assert not (tmp_path / "none").exists()
    wrong = CliRunner().invoke(app, [*map(str, [public_weights, *options]), "--figure", "x"])
    assert isinstance(wrong.exception, ConfigError)
