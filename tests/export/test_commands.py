"""The commands, the cache of converted weights, and what the runtime imports."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from retinaface_tf.errors import ConfigError
from retinaface_tf.inference.runtimes.open import open_runtime

REPOSITORY = Path(__file__).resolve().parents[2]


def run(code, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_litert_answers_without_tensorflow_or_keras(tflite, astronaut, tmp_path):
    from PIL import Image

    photo = tmp_path / "photo.png"
    Image.fromarray(astronaut).save(photo)
    code = """if True:
        import sys
        from retinaface_tf.cli import main
        try:
            main()
        except SystemExit as done:
            assert not done.code, done.code
        loaded = {"tensorflow", "keras", "jax", "onnxruntime"} & set(sys.modules)
        print("loaded", sorted(loaded))
    """
    done = run(code, "detect", photo, "--model", tflite, "--json", "-", "--threads", "1")
    assert done.returncode == 0, done.stderr
    *lines, loaded = done.stdout.splitlines()
    assert loaded == "loaded []"
    assert json.loads(lines[0])["width"] == 512


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["tflite", "out.txt"], "ends in .tflite"),
        (["onnx", "out.tflite"], "ends in .onnx"),
        (["tflite", "x.tflite", "--size", "640"], "WIDTHxHEIGHT"),
        (["tflite", "x.tflite", "--input-size", "640"], "WIDTHxHEIGHT"),
        (["tflite", "x.tflite", "--quantize", "int4"], "none, float16, dynamic or int8"),
        (["tflite", "x.tflite", "--input-type", "int64"], "float32 or uint8"),
        (["onnx", "x.onnx", "--threshold", "2"], "from 0 to 1"),
    ],
)
def test_wrong_options_say_what_is_wrong(arguments, message):
    from retinaface_tf.cli.export import app

    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, ConfigError) and message in str(result.exception)


def test_calibration_needs_a_folder_with_photos(tmp_path, rng):
    from PIL import Image

    from retinaface_tf.export.calibration import CalibrationPhotos

    with pytest.raises(ConfigError, match="no folder"):
        CalibrationPhotos(tmp_path / "none", (64, 64), (0, 0, 0))
    for number in range(20):
        pixels = rng.integers(0, 256, (40 + number, 90, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number:02d}.png")
        if number == 3:
            with pytest.raises(ConfigError, match="holds 4 images"):
                CalibrationPhotos(tmp_path, (64, 64), (0, 0, 0))
    photos = CalibrationPhotos(tmp_path, (64, 64), (1, 2, 3), limit=10)
    assert [path.stem for path in photos.paths] == [f"{n:02d}" for n in range(0, 20, 2)]
    shapes = {image.shape for image in photos}
    assert shapes == {(64, 64, 3)} and len(list(photos)) == 10


def test_a_runtime_that_cannot_run_a_file_is_refused(tflite):
    with pytest.raises(ConfigError, match="litert"):
        open_runtime(tflite, "onnx")
    with pytest.raises(ConfigError, match="no runtime 'caffe'"):
        open_runtime(tflite, "caffe")
    with pytest.raises(ConfigError, match="threads=0"):
        open_runtime(tflite, threads=0)
    with pytest.raises(ConfigError, match="Only onnxruntime takes providers"):
        open_runtime(tflite, providers="cpu")


@pytest.mark.slow
def test_benchmark_measures_each_in_its_own_process(tflite, onnx, tmp_path):
    from retinaface_tf.cli.benchmark import benchmark

    pytest.importorskip("skimage")
    benchmark([str(tflite), str(onnx)], sizes="160x96,64x64", rounds=3, json=tmp_path / "out.json")
    results = json.loads((tmp_path / "out.json").read_text())
    assert [Path(entry["model"]).suffix for entry in results] == [".tflite", ".onnx"]
    for entry in results:
        assert set(entry["latency"]) == {"160x96", "64x64"}
        assert all(len(times) == 3 and min(times) > 0 for times in entry["seconds"].values())
        assert entry["start_seconds"] > entry["load_seconds"] > 0
        assert (
            entry["peak_bytes"] > 10e6
            and entry["file_bytes"] == Path(entry["model"]).stat().st_size
        )


@pytest.mark.slow
def test_the_operator_report_finds_what_is_left_out(tflite):
    from retinaface_tf.export.operators import fits_gpu, measure_operators

    report = measure_operators(tflite, rounds=2)
    kinds = [entry.kind for entry in report.operators]
    assert kinds.count("CONV_2D") == 44 and kinds.count("LEAKY_RELU") == 38
    assert report.partitions == 1 and report.left_out == 0
    assert all(entry.xnnpack and entry.gpu for entry in report.operators)
    assert fits_gpu(tflite.read_bytes())
