"""The core alone: no command imports an extra's package, and what needs one says which."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import cv2
import pytest
from PIL import Image

from retinaface_tf.util.extras import EXTRAS

REPOSITORY = Path(__file__).resolve().parents[2]
START = """
import json, sys
from tests.helpers.bare import forbid
forbid()
import typer
from typer.testing import CliRunner
from retinaface_tf.cli import with_commands

app, runner = with_commands(), CliRunner()
"""
COMMANDS = """
def run(*words):
    done = runner.invoke(app, words)
    assert done.exit_code == 0, (words, done.output, done.exception)

def show_help(command, *words):
    run(*words, "--help")
    for name, below in getattr(command, "commands", {}).items():
        if not below.hidden:
            show_help(below, *words, name)

show_help(typer.main.get_command(app))
run("--version")
run("detect", "photo.png", "clip.avi", "--json", "faces.jsonl", "--draw", "d", "--crops", "c")
run("detect", "photo.png", "--precision", "int8")
run("detect", "photo.png", "--coco", "c.json", "--yolo", "y", "--labelme", "l", "--voc", "v", "--csv", "f.csv")
run("demo", "photo.png", "--out", "faces")
run("blur", "photo.png", "--out", "blurred")
run("presets")
run("presets", "lite")
run("weights", "list")
run("data", "synth", "drawn", "--count", "2")
run("data", "check", "retinaface", "drawn/label.txt", "drawn/images", "--headers")
"""
MISSING = """
for extra, line in json.loads(sys.argv[1]):
    done = runner.invoke(app, line.split())
    said = str(done.exception)
    assert done.exit_code == 1, (line, done.output)
    assert type(done.exception).__name__ == "MissingPackage", (line, repr(done.exception))
    assert said.endswith(f'not installed: pip install "retinaface-tf[{extra}]".'), (line, said)
done = runner.invoke(app, ["detect", "photo.png", "--model", "photo.png"])
assert "photo.png is neither a .weights.h5" in str(done.exception), repr(done.exception)
import inspect, retinaface_tf
assert {"RetinaFace", "load_image"} < dict(inspect.getmembers(retinaface_tf)).keys()
try:
    from retinaface_tf import build_retinaface
except ImportError as error:
    assert str(error).endswith('is not installed: pip install "retinaface-tf[train]".'), error
"""
# What is asked for, by the extra that it needs.
NEEDS = [
    ("train", "train --out out"),
    ("train", "train-mesh labels --out out"),
    ("train", "detect photo.png --runtime keras --draw out"),
    ("train", "data check retinaface label.txt ."),
    ("train", "data pack retinaface label.txt . out"),
    ("export", "export tflite out.tflite"),
    ("export", "export onnx out.onnx"),
    ("export", "export savedmodel out"),
    ("export", "weights convert w.pth out.weights.h5 --preset lite"),
    ("export", "detect photo.png --model w.weights.h5 --draw out"),
    ("export", "detect photo.png --model w.keras --draw out"),
    ("bulk", "detect photo.png --parquet out"),
    ("video", "blur photo.png clip.avi --out out"),
    ("evaluate", "group photo.png --embedder e.onnx --out out"),
    ("onnx", "detect photo.png --runtime onnx --draw out"),
    ("evaluate", "evaluate fddb --gt label.txt --images ."),
    ("evaluate", "evaluate report r.json --out out"),
    ("evaluate", "benchmark litert --gt label.txt --images . --plot out.png"),
    ("client", "detect photo.png --server localhost:1 --draw out"),
    ("serving", "serve --model m"),
    ("bulk", "detect photo.png --engine processes --out out"),
    ("ray", "detect photo.png --engine ray --out out"),
]


@pytest.fixture
def folder(tmp_path, astronaut) -> Path:
    """A folder with a photo, a video, and files whose names say that they are weights."""
    Image.fromarray(astronaut).save(tmp_path / "photo.png")
    frame = cv2.cvtColor(astronaut[:256, 96:352], cv2.COLOR_RGB2BGR)
    clip = cv2.VideoWriter(
        str(tmp_path / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (256, 256)
    )
    for _ in range(2):
        clip.write(frame)
    clip.release()
    for name, start in (
        ("w.weights.h5", b"\x89HDF\r\n\x1a\n"),
        ("w.keras", b"PK"),
        ("w.pth", b"PK"),
    ):
        (tmp_path / name).write_bytes(start + b"weights")
    (tmp_path / "label.txt").write_text("# photo.png\n180 60 90 110\n")
    (tmp_path / "r.json").write_text('{"format": 1, "kind": "fddb"}')
    return tmp_path


def in_core(folder: Path, code: str, *arguments: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "RETINAFACE_TF_CACHE": "cache"}
    done = subprocess.run(
        [sys.executable, "-c", START + code, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_core_commands_import_no_extras_package(folder):
    in_core(folder, COMMANDS)
    assert (folder / "faces" / "photo.png").is_file()


def test_what_needs_an_extra_names_it_before_any_work(folder):
    before = files_in(folder)
    in_core(folder, MISSING, json.dumps(NEEDS))
    assert files_in(folder) == before


def test_an_extra_brings_the_modules_it_is_asked_for():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    extras, brought_by = project["optional-dependencies"], packages_distributions()

    def packages(extra: str) -> set[str]:
        found = set()
        for line in extras[extra]:
            name, others = re.match(r"([\w-]+)(?:\[([\w,]+)\])?", line).groups()
            if name == project["name"]:
                found |= {package for other in others.split(",") for package in packages(other)}
            found.add(name)
        return found

    for extra, modules in EXTRAS.items():
        for module in modules:
            owners = {name.lower().replace("_", "-") for name in brought_by[module.split(".")[0]]}
            assert owners & packages(extra), (extra, module)
