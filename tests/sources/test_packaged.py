"""Networks in the package: at work without TensorFlow, network and cache, and what they are."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from retinaface_tf import RetinaFace, cli, presets
from retinaface_tf.bulk.network import describe_network
from retinaface_tf.config import DEFAULT_SETTINGS
from retinaface_tf.errors import ConfigError, WeightsError
from retinaface_tf.geometry.boxes import pairwise_iou
from retinaface_tf.sources import packaged as packaged_files
from retinaface_tf.sources.source import PRECISIONS
from retinaface_tf.util.cache import CACHE_VARIABLE
from retinaface_tf.weights import choose_file
from retinaface_tf.weights.choose_file import preset_file
from tests.helpers.bare import packaged_presets

cli.with_commands()
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def photos(astronaut, tmp_path) -> Path:
    """A folder of two sizes of the portrait; one lies deeper."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    Image.fromarray(astronaut).save(folder / "portrait.png")
    Image.fromarray(astronaut[:400, :330]).save(folder / "more" / "cut.png")
    return folder


@pytest.fixture
def bare(tmp_path):
    """Runs code in a process that has nothing but what detection needs; its standard output."""

    def run(code: str, *arguments: str, onnx_for_litert: bool = False) -> str:
        (tmp_path / "in the way").write_text("a file, where the cache would be a folder")
        start = f"from tests.helpers.bare import forbid; forbid({onnx_for_litert})\n"
        environment = {
            **os.environ,
            "COLUMNS": "200",  # for tables
            CACHE_VARIABLE: str(tmp_path / "in the way" / "cache"),
        }
        result = subprocess.run(
            [sys.executable, "-c", start + code, *map(str, arguments)],
            cwd=REPOSITORY,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    return run


def assert_is_the_face(face, expected, least):
    """An entry of a JSON line is the one face that Keras finds in the NASA portrait."""
    (overlap,) = pairwise_iou(np.array([face["box"]], np.float32), expected.boxes)[0]
    assert overlap >= least
    assert abs(face["score"] - expected.scores[0]) < 0.1
    size = np.sqrt(np.prod(expected.boxes[0, 2:] - expected.boxes[0, :2]))
    points = np.array(face["landmarks"])
    assert np.abs(points - expected.landmarks[0]).max() < 0.05 * size


def test_the_api_finds_faces_in_a_bare_process(bare, packaged, photos, astronaut):
    expected = RetinaFace.from_preset(packaged.name, runtime="keras").detect(astronaut)
    # The portrait's face, as a person would draw its box.
    assert pairwise_iou(np.float32([[178, 57, 273, 180]]), expected.boxes)[0, 0] > 0.7
    answers = bare(
        f"""
import json, sys
from retinaface_tf import RetinaFace
from retinaface_tf.images.read import read_image
paths = sys.argv[1:]
answers = []
for precision in ("float32", "int8"):
    detector = RetinaFace.from_preset({packaged.name!r}, precision=precision)
    image = read_image(paths[0])
    faces = detector.detect(image)
    assert (faces.draw(image) != image).any() and faces.align(image).shape == (1, 112, 112, 3)
    answers.append([f.to_dict()["faces"] for f in detector.detect(paths, batch_size=2)])
    assert answers[-1][0][0]["score"] == faces.to_dict()["faces"][0]["score"]
assert not {{"tensorflow", "keras"}} & set(sys.modules)
print(json.dumps(answers))
""",
        photos / "portrait.png",
        photos / "more" / "cut.png",
    )
    for images, least in zip(json.loads(answers), (0.98, 0.9), strict=True):
        assert [len(faces) for faces in images] == [1, 1]
        for (face,) in images:
            assert_is_the_face(face, expected, least)


def test_the_command_line_finds_faces_in_a_bare_process(bare, packaged, photos, tmp_path):
    code = "import sys; from retinaface_tf.cli import main; main()"
    out, drawn = tmp_path / "faces.jsonl", tmp_path / "drawn"
    chosen = ("--preset", packaged.name)
    bare(code, "detect", photos, *chosen, "--json", out, "--draw", drawn)
    found = {Path(e["image"]).name: e for e in map(json.loads, out.read_text().splitlines())}
    assert {name: len(entry["faces"]) for name, entry in found.items()} == {
        "portrait.png": 1,
        "cut.png": 1,
    }
    assert found["portrait.png"]["width"] == 512
    before, after = (
        np.asarray(Image.open(f / "more" / "cut.png").convert("RGB")) for f in (photos, drawn)
    )
    assert before.shape == after.shape and (before != after).any()

    table = bare(code, "detect", photos / "portrait.png", *chosen, "--precision", "int8")
    assert "1 face in 1 image" in table
    assert "1 face in 1 image" in bare(
        code, "demo", photos / "portrait.png", "--out", tmp_path / "demo", *chosen
    )


def test_as_installed_a_portrait_needs_no_option_network_conversion_or_tensorflow(
    bare, astronaut, tmp_path
):
    """The package's own default network, whatever is cached or pulled here."""
    photo = tmp_path / "portrait.png"
    Image.fromarray(astronaut).save(photo)
    code = "import sys; from retinaface_tf.cli import main; main()"
    assert "1 face in 1 image" in bare(code, "detect", photo)
    (face,) = json.loads(bare(code, "detect", photo, "--json", "-"))["faces"]
    expected = RetinaFace.from_preset(runtime="keras").detect(astronaut)
    assert_is_the_face(face, expected, 0.98)
    code = "from retinaface_tf import RetinaFace; print(len(RetinaFace.from_preset().detect('{}')))"
    assert bare(code.format(photo)).split()[-1] == "1"


def test_the_lists_name_it_without_tensorflow(bare, packaged):
    code = "import sys; from retinaface_tf.cli import main; main()"
    weights = str(preset_file(packaged.name, "keras"))
    assert bare(code, "weights", "pull", packaged.name).strip() == weights
    (row,) = (r for r in bare(code, "weights", "list").splitlines() if f" {packaged.name} " in r)
    assert "in this package" in row
    assert packaged.name in bare(code, "presets")


def test_all_its_files_find_the_same_face(packaged, astronaut):
    keras = RetinaFace.from_preset(packaged.name, runtime="keras").detect(astronaut)
    litert = RetinaFace.from_preset(packaged.name).detect(astronaut)
    assert len(keras) == len(litert) == 1
    np.testing.assert_allclose(keras.boxes, litert.boxes, atol=1)
    np.testing.assert_allclose(keras.scores, litert.scores, atol=0.01)
    config = RetinaFace.from_preset(packaged.name).config
    assert (
        config
        == presets.get_preset(packaged.name).config
        == choose_file.load_preset(packaged.name).config
    )


def test_a_bulk_run_takes_the_file_in_the_package(packaged):
    for precision in PRECISIONS:
        spec = describe_network(
            packaged.name, None, None, precision=precision, threads=1, settings=DEFAULT_SETTINGS
        )
        path = packaged.source.file("tflite", precision)
        assert (spec.path, spec.runtime) == (str(path), "litert")
        assert spec.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_results_of_an_evaluation_note_the_file(stand_in):
    from retinaface_tf.cli.evaluation_run import DetectorOptions

    def sha256(kind, precision="float32"):
        return hashlib.sha256(stand_in.source.file(kind, precision).read_bytes()).hexdigest()

    for precision, name in (("float32", "stand-in"), ("int8", "stand-in int8")):
        options = DetectorOptions(
            preset="stand-in", model=None, runtime=None, threshold=0.5, iou=0.4, precision=precision
        )
        _, settings = options.open()
        assert (settings["weights"], settings["runtime"]) == (name, "litert")
        assert settings["weights_sha256"] == sha256("tflite", precision)
        assert settings["weights_source_sha256"] == sha256("weights")


def test_figures_of_packaged_weights_are_listed(stand_in):
    preset = presets.get_preset("stand-in")
    assert preset.figures() == (("AP, made up", "0.123"),)
    public = presets.get_preset("mobilenet0.25")
    assert public.figures() == (*public.published, *public.measured)


def test_precisions_that_are_not_there(stand_in):
    with pytest.raises(ConfigError, match="'int4' must be float32 or int8"):
        RetinaFace.from_preset("stand-in", precision="int4")
    with pytest.raises(ConfigError, match="for the runtime litert, not 'keras'"):
        RetinaFace.from_preset("stand-in", runtime="keras", precision="int8")
    with pytest.raises(ConfigError, match="no int8 file; make one with"):
        RetinaFace.from_preset("mobilenet0.25", precision="int8")
    result = CliRunner().invoke(cli.app, ["detect", "x.png", "--model", "m", "--precision", "int8"])
    assert result.exit_code == 1


def test_missing_and_damaged_files_say_what_to_do(stand_in):
    files = {path: bytearray(path.read_bytes()) for path in stand_in.source.folder.iterdir()}
    for path in files:
        path.unlink()
    for open_it in (RetinaFace.from_preset, choose_file.pull, choose_file.load_preset):
        with pytest.raises(WeightsError, match="missing from this installation"):
            open_it("stand-in")
    for path, content in files.items():
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"standin\.tflite is truncated or damaged"):
        RetinaFace.from_preset("stand-in")
    with pytest.raises(WeightsError, match="install retinaface-tf again"):
        choose_file.load_preset("stand-in")


@pytest.mark.parametrize("name", packaged_presets())
def test_its_onnx_file_finds_what_its_tflite_finds(name, astronaut):
    litert, onnx = (RetinaFace.from_preset(name, runtime=r) for r in ("litert", "onnx"))
    # Sides that are no multiples of a stride too.
    for image in (astronaut, astronaut[:401, :333], np.tile(astronaut, (2, 3, 1))):
        expected, found = litert.detect(image), onnx.detect(image)
        assert len(expected) == len(found) >= 1
        np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-3)
        np.testing.assert_allclose(found.landmarks, expected.landmarks, atol=1e-3)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)


def test_without_litert_and_tensorflow_onnxruntime_is_taken(bare, tmp_path, astronaut):
    photo = tmp_path / "portrait.png"
    Image.fromarray(astronaut).save(photo)
    code = "import sys; from retinaface_tf.cli import main; main()"
    answer = bare(code, "detect", photo, "--json", "-", "--threads", "1", onnx_for_litert=True)
    (face,) = json.loads(answer)["faces"]
    assert face == RetinaFace.from_preset(runtime="onnx").detect(astronaut).to_dict()["faces"][0]
    assert "1 face in 1 image, by onnx" in bare(code, "detect", photo, onnx_for_litert=True)
    assert "1 face in 1 image, by litert" in bare(code, "detect", photo)


@pytest.mark.parametrize("name", packaged_presets())
def test_the_package_has_what_its_facts_say(name):
    source = presets.get_preset(name).source
    facts, names = source.facts(), packaged_files.file_names(source.stem)
    assert facts["preset"] == name and facts["figures"]
    assert set(facts["files"]) == {names[kind] for kind in ("weights", "float32", "int8", "onnx")}
    for file, described in facts["files"].items():
        content = (packaged_files.FOLDER / file).read_bytes()
        assert hashlib.sha256(content).hexdigest() == described["sha256"]
        assert len(content) == described["bytes"] < 3_000_000
    for measured in facts["check"].values():
        assert measured["faces"] >= 1 and measured["least_iou"] > 0.75
