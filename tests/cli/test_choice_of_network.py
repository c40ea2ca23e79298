"""Which network `retinaface-tf detect` opens: the real command, packaged files and runtimes."""

import json
import shutil

import pytest
from PIL import Image
from typer.testing import CliRunner

from retinaface_tf import RetinaFace, cli
from retinaface_tf.cli.open_detector import open_detector
from retinaface_tf.errors import ConfigError, WeightsError
from retinaface_tf.inference.runtimes.litert import LiteRTRuntime
from retinaface_tf.presets import get_preset
from retinaface_tf.weights.choose_file import load_preset
from retinaface_tf.weights.hdf5 import save_weights

cli.with_commands()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files of the packaged network: "float32" and "int8" for LiteRT, "weights" for Keras."""
    folder = tmp_path_factory.mktemp("networks")
    source = get_preset("lite").source
    found = {p: source.file("tflite", p) for p in ("float32", "int8")}
    if not all(path.is_file() for path in found.values()):
        pytest.skip("needs the packaged network")
    own = {name: shutil.copy(path, folder / f"{name}.tflite") for name, path in found.items()}
    return own | {"weights": save_weights(load_preset("lite"), folder / "own.weights.h5")}


@pytest.fixture(scope="module")
def photo(tmp_path_factory, astronaut):
    path = tmp_path_factory.mktemp("photo") / "portrait.png"
    Image.fromarray(astronaut).save(path)
    return path


def detect(*arguments):
    return CliRunner().invoke(cli.app, ["detect", *map(str, arguments)])


def faces_of(photo, *options):
    result = detect(photo, "--json", "-", *options)
    assert result.exit_code == 0, (result.output, result.exception)
    return json.loads(result.stdout)["faces"]


def expected(path, photo):
    """The faces of a .tflite file, opened without the command line."""
    return RetinaFace(LiteRTRuntime(path)).detect(photo).to_dict()["faces"]


def test_the_command_runs_the_file_that_its_options_name(files, photo):
    float32, int8 = expected(files["float32"], photo), expected(files["int8"], photo)
    assert len(float32) == 1 and float32 != int8
    assert faces_of(photo) == float32
    assert faces_of(photo, "--model", files["float32"]) == float32
    assert faces_of(photo, "--preset", "lite", "--precision", "int8") == int8
    assert faces_of(photo, "--model", files["int8"], "--runtime", "litert") == int8


def test_weights_run_in_keras_where_that_is_asked_for(files, photo):
    detector = open_detector("ignored", files["weights"], "keras")
    assert detector.backend.name == "keras" and detector.runtime.model is not None
    (face,) = faces_of(photo, "--model", files["weights"], "--runtime", "keras")
    (other,) = expected(files["float32"], photo)
    assert face["box"] == pytest.approx(other["box"], abs=0.5)


def test_the_network_is_that_of_the_preset_or_the_file(files):
    assert open_detector("lite").config == get_preset("lite").config
    int8 = open_detector("lite", precision="int8", threads=1)
    assert int8.runtime.metadata.precision == "int8" and int8.runtime.threads == 1
    assert open_detector("ignored", files["float32"]).runtime.path == files["float32"]


@pytest.mark.parametrize(
    "options, message",
    [
        (("--preset", "liet"), "liet"),
        (("--runtime", "tpu"), "no runtime 'tpu'"),
        (("--precision", "int4"), "precision='int4'"),
        (("--precision", "int8", "--runtime", "keras"), "for the runtime litert, not 'keras'"),
        (("--precision", "int8", "--preset", "mobilenet0.25"), "has no int8 file"),
        (("--precision", "int8", "--model", "a.tflite"), "--precision chooses a preset's file"),
        (("--model", "a.tflite", "--runtime", "keras"), "'keras' does not run a.tflite"),
        (("--threads", "0"), "threads=0"),
        (("--server", "h:1", "--model", "a.tflite"), "takes the place of --model"),
        (("--server", "h:1", "--iou", "0.3"), "--size and --iou are fixed"),
        (("--size", "2150x1600"), "short edge of 2150 pixels above the longest side"),
        (("--server", "h:1", "--no-large-faces"), "--no-large-faces and --zoom are for networks"),
        (("--server", "h:1", "--zoom", "3"), "--no-large-faces and --zoom are for networks"),
        (("--zoom", "1"), "zoom=1 must be 'auto', 'off' or a whole number from 2"),
        (("--budget", "1s"), "budget='1s' must be a number of tiles, or milliseconds"),
        (("--zoom", "3", "--flip"), "zoom=3 needs one search per image"),
        (("--server", "h:1", "--header", "colourless"), "give NAME:VALUE"),
        (("--server", "nowhere"), "give HOST:PORT"),
        (("--mesh", "out"), "needs a network with a dense branch"),
        (("--mesh", "out", "--flip"), "needs one search per image"),
    ],
)
def test_options_that_do_not_go_together_are_one_sentence(photo, options, message):
    result = detect(photo, *options)
    assert isinstance(result.exception, ConfigError) and message in str(result.exception)


def test_a_missing_or_foreign_file_is_named(photo, tmp_path):
    foreign = tmp_path / "foreign.tflite"
    foreign.write_bytes(b"no network")
    for path in (tmp_path / "missing.tflite", tmp_path / "missing.weights.h5", foreign):
        result = detect(
            photo, "--model", path, "--runtime", "keras" if path.suffix == ".h5" else "litert"
        )
        assert isinstance(result.exception, WeightsError) and path.name in str(result.exception)
