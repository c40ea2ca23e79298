"""Which file a runtime runs: by preset, runtime and precision; and weights converted once."""

import dataclasses
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from retinaface_tf import RetinaFace, presets
from retinaface_tf.config import PyramidLevel, RetinaFaceConfig
from retinaface_tf.errors import ConfigError, MissingPackage, WeightsError
from retinaface_tf.modelfile.metadata import ModelMetadata, append_checksum
from retinaface_tf.sources.source import Fetched
from retinaface_tf.util.cache import CACHE_VARIABLE
from retinaface_tf.weights import choose_file
from retinaface_tf.weights.choose_file import (
    load_preset,
    preset_file,
    runnable_file,
    weights_path,
)
from retinaface_tf.weights.hdf5 import save_weights
from retinaface_tf.weights.load import load_weights

SMALL = RetinaFaceConfig(channels=8, levels=(PyramidLevel(stride=16, anchor_sizes=(32, 64)),))


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A small network of a user's own."""
    import keras

    from retinaface_tf.models import build_retinaface

    keras.utils.set_random_seed(1)
    network, random = build_retinaface(SMALL), np.random.default_rng(1)
    for weight in network.weights:
        head = weight.path.startswith("p4_") and weight.path.endswith("kernel")
        if head or weight.path.endswith(("beta", "bias")):
            weight.assign(random.normal(0, 0.4, weight.shape))
    return save_weights(network, tmp_path_factory.mktemp("own") / "s.weights.h5")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def no_process(monkeypatch):
    """Nothing is converted or fetched."""
    monkeypatch.setattr(subprocess, "run", None)


@dataclasses.dataclass(frozen=True)
class Folder:
    """A kind of source that the package does not have: files in a folder, named by what they are."""

    folder: Path
    licence: str = "MIT (a test)"
    origin: str = "a folder of the test"
    digest: str = "0123456789abcdef"
    how_large: str = ""

    def describe(self):
        return [f"{self.origin}: {self.folder}", f"licence: {self.licence}"]

    def file(self, kind, precision="float32"):
        path = self.folder / f"{precision}.{kind}"
        return path if path.is_file() else None

    def fetch(self, folder, notify, given=None):
        notify("copying")
        copy = folder / "original.weights.h5"
        shutil.copy(self.folder / "source.h5", copy)
        return Fetched(copy, "Permission is granted.")

    def figures(self):
        return {"AP, made up": "0.123"}


@pytest.fixture
def source(weights, tmp_path, monkeypatch) -> Folder:
    """The source of preset "own", which has trained weights alone."""
    (tmp_path / "files").mkdir()
    shutil.copy(weights, tmp_path / "files" / "source.h5")
    source = Folder(tmp_path / "files")
    preset = presets.Preset(
        name="own", summary="of a test", config=SMALL, source=source, parameters=0.1, gmac=0.1
    )
    monkeypatch.setitem(presets._PRESETS, "own", preset)
    return source


def test_a_new_kind_of_source_is_fetched_converted_and_cached(source, cache, no_process):
    said = []
    path = preset_file("own", "keras", notify=said.append)
    assert path == weights_path("own") == cache / "own-0123456789ab.weights.h5"
    assert said[:3] == [
        f"own: a folder of the test: {source.folder}",
        "licence: MIT (a test)",
        "copying",
    ]
    assert (cache / "own-0123456789ab.LICENSE.txt").read_text() == "Permission is granted."
    (source.folder / "source.h5").unlink()
    assert preset_file("own", "keras") == path  # not fetched again
    assert load_preset("own").config == SMALL == load_weights(path).config


def test_a_new_kind_of_source_is_listed(source):
    from retinaface_tf.cli.presets import presets as command
    from retinaface_tf.cli.weights import app

    assert (
        "a folder of the test" in CliRunner().invoke(app, ["list"], env={"COLUMNS": "300"}).stdout
    )
    assert presets.get_preset("own").figures() == (("AP, made up", "0.123"),)
    command()


@pytest.mark.parametrize("runtime", choose_file.RUNTIMES)
def test_a_file_that_the_source_has_is_taken_as_it_is(source, runtime, no_process):
    kind = choose_file.KIND_OF_RUNTIME[runtime]
    for precision in ("float32", "int8"):
        (source.folder / f"{precision}.{kind}").touch()
        assert preset_file("own", runtime, precision=precision) == source.file(kind, precision)


def test_litert_is_the_runtime_where_none_is_named(source, no_process):
    (source.folder / "float32.tflite").touch()
    assert preset_file("own") == source.folder / "float32.tflite"


def test_what_is_not_there_is_refused(source):
    (source.folder / "int8.tflite").touch()
    for preset, runtime, precision, message in (
        ("own", None, "int4", "'int4' must be float32 or int8"),
        ("own", "keras", "int8", "for the runtime litert, not 'keras'"),
        ("mobilenet0.25", None, "int8", "no int8 file; make one with"),
        (
            "own",
            "torch",
            "float32",
            "no runtime 'torch'; choose one of auto, fastest, litert, onnx, keras, openvino",
        ),
        ("none", None, "float32", "No preset is called 'none'"),
    ):
        with pytest.raises(ConfigError, match=message):
            preset_file(preset, runtime, precision=precision)
    with pytest.raises(WeightsError, match="'yunet' has no weights"):
        preset_file("yunet")


def test_model_files_run_as_they_are(weights, no_process):
    for path, runtime, expected in (
        ("a.tflite", None, "litert"),
        ("a.TFLITE", "litert", "litert"),
        ("a.onnx", None, "onnx"),
        ("a.onnx", "openvino", "openvino"),
        ("a.tflite", "openvino-bf16", "openvino-bf16"),
        (weights, "keras", "keras"),
    ):
        assert runnable_file(path, runtime) == (Path(path), expected)
    for path, runtime, fitting in (
        ("a.tflite", "onnx", "litert"),
        ("a.tflite", "keras", "litert"),
        ("a.onnx", "litert", "onnx"),
    ):
        with pytest.raises(ConfigError, match=f"{runtime!r} does not run {path}; '{fitting}' does"):
            runnable_file(path, runtime)
    with pytest.raises(ConfigError, match="no runtime 'torch'"):
        runnable_file(weights, "torch")
    with pytest.raises(WeightsError, match=r"no weights file none\.weights\.h5"):
        runnable_file("none.weights.h5")


@pytest.mark.parametrize(
    "kind, runtime", [("tflite", None), ("tflite", "litert"), ("onnx", "onnx")]
)
def test_what_earlier_versions_cached_is_still_found(weights, cache, no_process, kind, runtime):
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    path = cache / "compiled" / f"{sha256[:16]}-1.{kind}"
    path.parent.mkdir(parents=True)
    note = ModelMetadata(config=SMALL).to_json()
    path.write_bytes(append_checksum(note.encode()))
    assert runnable_file(weights, runtime) == (path, runtime or "litert")


def test_a_kept_conversion_that_cannot_be_read_is_made_anew(weights, cache, monkeypatch):
    removed = ModelMetadata(config=SMALL).to_json().replace("mobilenet0.25", "yunet-slim")
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    path = cache / "compiled" / f"{sha256[:16]}-1.tflite"
    path.parent.mkdir(parents=True)
    _answers(monkeypatch, f"error: {weights} describes a network this version does not know.\n")
    for content in (append_checksum(removed.encode()), b"", b"cut"):
        path.write_bytes(content)
        # The sentence is about the file that was given, not about the one that was kept.
        with pytest.raises(WeightsError, match=rf"^{weights} describes a network"):
            runnable_file(weights)


def _answers(monkeypatch, stderr: str):
    def run(command, **_):
        raise subprocess.CalledProcessError(1, command, stderr=stderr)

    monkeypatch.setattr(subprocess, "run", run)


def test_what_the_conversion_says_is_the_error(weights, monkeypatch):
    _answers(monkeypatch, "some note\nerror: s.weights.h5 is damaged: copy it again.\n")
    with pytest.raises(WeightsError, match=r"^s\.weights\.h5 is damaged: copy it again\.$"):
        runnable_file(weights)
    for stderr, reason in (("Segmentation fault", "Segmentation fault"), ("", "no message")):
        _answers(monkeypatch, stderr)
        with pytest.raises(WeightsError, match=rf"converted to \.onnx \({reason}\); try --runtime"):
            runnable_file(weights, "onnx")


def test_a_conversion_that_hangs_ends(weights, monkeypatch):
    monkeypatch.setattr(choose_file, "_SECONDS", 0.01)
    with pytest.raises(WeightsError, match=r"took more than 0\.01 s; try --runtime keras"):
        runnable_file(weights)


def test_a_cache_that_cannot_be_written_is_said_first(weights, tmp_path, monkeypatch, no_process):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file" / "cache"))
    with pytest.raises(WeightsError, match=r"cannot be written .*RETINAFACE_TF_CACHE"):
        runnable_file(weights)


@pytest.mark.slow
def test_weights_are_converted_once_by_a_process_of_their_own(weights, cache, rng, monkeypatch):
    said = []
    path, _ = runnable_file(weights, notify=said.append)
    assert list((cache / "compiled").iterdir()) == [path]
    assert len(said) == 1 and "once" in said[0]
    monkeypatch.setattr(subprocess, "run", None)
    assert runnable_file(weights, notify=said.append)[0] == path and len(said) == 1
    image = rng.integers(0, 256, (96, 160, 3)).astype(np.uint8)
    found, expected = (
        RetinaFace.from_file(weights, runtime=runtime, threshold=0.0, max_faces=5).detect(image)
        for runtime in ("litert", "keras")
    )
    assert len(found) == len(expected) >= 2
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=0.05)


@pytest.mark.slow
def test_damage_and_missing_packages_leave_one_sentence_and_no_file(
    weights, cache, tmp_path, monkeypatch
):
    damaged = tmp_path / "cut.weights.h5"
    damaged.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(
        WeightsError, match=r"^\S*cut\.weights\.h5 is truncated or damaged; [^.]*\.$"
    ):
        runnable_file(damaged)
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(
        MissingPackage, match=r"^Converting .* to \.onnx needs tf2onnx, which is not"
    ):
        runnable_file(weights, "onnx")
    assert not list((cache / "compiled").iterdir())


def test_a_given_file_is_looked_at_though_one_is_cached(tmp_path):
    wrong = tmp_path / "wrong.pth"
    wrong.write_bytes(b"something else")
    target = weights_path("resnet50")
    target.parent.mkdir(parents=True)
    target.write_bytes(b"cached")
    assert choose_file.pull("resnet50") == target
    with pytest.raises(WeightsError, match=r"wrong\.pth is not Resnet50_Final\.pth"):
        choose_file.pull("resnet50", given=wrong)
    assert target.read_bytes() == b"cached" and wrong.read_bytes() == b"something else"


def test_a_preset_by_its_entry_is_the_same_file():
    assert weights_path("resnet50.biubug6") == weights_path("resnet50")
    assert weights_path("resnet50.ternaus") != weights_path("resnet50")
    with pytest.raises(ConfigError, match=r"No preset is called 'resnet50\.nobody'"):
        weights_path("resnet50.nobody")
