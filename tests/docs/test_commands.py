"""Every command that the pages show is one that the command line, or the script, takes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from retinaface_tf.cli import with_commands
from tests.helpers.film import film
from tests.helpers.mean_colour import mean_colour_onnx
from tests.helpers.page_commands import REPOSITORY, page_commands

# Of an earlier commit, which the page names.
REMOVED = ("benchmarks/own_ablation.py",)
ROOT = typer.main.get_command(with_commands())
COMMANDS = [command for command in page_commands() if command.program not in REMOVED]
# What a mention in a sentence may lack.
LEFT_OUT = re.compile("Missing|required|requires an argument|expected one argument")


def refusal(arguments: tuple[str, ...]) -> str:
    """What the command line says of arguments; "" where it takes them."""
    words = [word for word in arguments if word not in ("--debug", "...")]
    command = ROOT
    while hasattr(command, "commands"):
        if not words or words[0].startswith("-"):
            return ""  # the program's own options
        if words[0] not in command.commands:
            return f"there is no command {words[0]}"
        command = command.commands[words.pop(0)]
    if words == ["--help"]:
        return ""
    try:
        command.make_context(command.name, words)
    except Exception as error:  # Typer's own class has moved
        return f"{type(error).__name__}: {error.format_message()}"
    return ""


def test_every_command_of_ours_parses():
    ours = [command for command in COMMANDS if command.program == "retinaface-tf"]
    wrong = []
    for command in ours:
        said = refusal(command.arguments)
        if said and (command.is_whole or not LEFT_OUT.search(said)):
            wrong.append((command.page, " ".join(command.arguments), said))
    assert not wrong, "\n".join(map(str, wrong))
    assert sum(command.is_whole for command in ours) > 100


def test_every_script_takes_its_arguments():
    asked = []
    for command in COMMANDS:
        if command.program != "retinaface-tf":
            path = REPOSITORY / command.program
            assert path.is_file(), command
            text = path.read_text()
            if "ArgumentParser(" in text or "run_script(" in text:
                asked.append(command)
    lines = [[c.program, *(w.strip("[]") for w in c.arguments if w != "...")] for c in asked]
    done = subprocess.run(
        [sys.executable, "-m", "tests.helpers.parse_command"],
        input=json.dumps(lines),
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )
    assert done.returncode == 0, done.stderr
    wrong = [
        (command.page, command.program, *command.arguments, said[-300:])
        for command, said in zip(asked, json.loads(done.stdout), strict=True)
        if said and "does not exist" not in said and (command.is_whole or not LEFT_OUT.search(said))
    ]
    assert not wrong, "\n".join(map(str, wrong))
    assert len(asked) > 60


# Pages whose commands need no more than the folder below; the words that need what a test has not.
RUN = [
    "README.md",
    "docs/index.md",
    "docs/detect.md",
    "docs/blur.md",
    "docs/video.md",
    "docs/speed.md",
    "docs/extend.md",
]
RUN += [
    "docs/what-you-can-do.md",
    "docs/model-zoo.md",
    "docs/paper-network.md",
    "docs/train-on-your-photos.md",
]
NOT_HERE = {
    "webcam": "a camera",
    "rtsp://camera/stream": "a camera",
    "http://192.168.0.7/snapshot.jpg": "a camera",
    "https://example.org/photo.jpg": "the network",
    "pull": "the network",
    "demo": "the network",
    "1:30": "a film of two minutes",
    "model.pth": "a PyTorch file",
    "train": "minutes: tests/training",
    "runs/mine/best.weights.h5": "what a training wrote",
    "runs/mine/last.weights.h5": "what a training wrote",
    "my_faces:csv": "the page's module: tests/docs/test_python_blocks.py",
    "mine.tflite": "an embedder as .tflite",
    "benchmark": "minutes: tests/cli",
    "-": "a photo on stdin: tests/cli",
}
HERE = [
    command
    for command in COMMANDS
    if command.page in RUN and command.program == "retinaface-tf" and command.is_whole
]
HERE = [command for command in HERE if not set(command.arguments) & set(NOT_HERE)]


@pytest.fixture(scope="module")
def inputs(astronaut, tmp_path_factory):
    """A folder with what the pages' commands read."""
    folder = tmp_path_factory.mktemp("inputs")
    for place in ("holiday", "photos", "PHOTOS"):
        (folder / place).mkdir()
    for name in ("photo", "me", "ann", "crowd", "holiday/1", "photos/1", "PHOTOS/1", "PHOTOS/2"):
        Image.fromarray(astronaut).save(folder / f"{name}.jpg")
    mean_colour_onnx(folder / "arcface.onnx", "nchw")
    film(folder / "film.mp4")
    for name in ("clip", "video"):
        shutil.copy(folder / "film.mp4", folder / f"{name}.mp4")
    labels = {
        "images": [{"id": 1, "file_name": "1.jpg", "width": 512, "height": 512}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [150, 50, 160, 220]}],
        "categories": [{"id": 1, "name": "face"}],
    }
    (folder / "labels.json").write_text(json.dumps(labels))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("command", HERE, ids=lambda command: " ".join(command.arguments))
def test_it_runs_as_it_is_written(command, inputs, tmp_path, monkeypatch):
    shutil.copytree(inputs, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    done = CliRunner().invoke(with_commands(), command.arguments)
    assert done.exit_code == 0, (done.output, done.exception)
