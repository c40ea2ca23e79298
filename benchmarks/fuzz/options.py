"""Random command lines: every command's own options, with values a person may type, and worse."""

from __future__ import annotations

from typing import Any

import numpy as np
import typer

# Names that lie in the scratch folder, or do not, or cannot.
NAMES = (
    *("photo.jpg", "turned.jpg", "photo.png", "clip.avi", "wider.txt", "coco.json", "lines.jsonl"),
    *("lite.tflite", "lite.weights.npz", "train.toml", "missing.jpg", "empty.txt", "folder"),
    *("locked", "locked/file", "photo.jpg/file", "out", "out/deep/file", "new.jsonl", "new.tflite"),
    *("new.onnx", "new.weights.h5", "new.png", "[red]x.png", ":smile:.jpg", "a b.jpg", ".."),
    *(".", "", "-", "device", "pipe", "link.jpg", "~", "*.jpg", "**", "x\ny.jpg"),
    *("http://localhost/x.jpg", "webcam:99", "\udcff.jpg", "x" * 250 + ".jpg", "\u2028.jpg"),
    *("x" * 300, "x" * 300 + ".mp4", "y" * 300 + ".tflite", "z/" * 3000 + ".jsonl"),
)
NUMBERS = (
    "0",
    "1",
    "-1",
    "2",
    "0.5",
    "1.5",
    "nan",
    "inf",
    "-inf",
    "1e308",
    "99999999999",
    "9" * 20,
    "",
    "x",
)
WORDS = (
    *("litert", "keras", "onnx", "float32", "int8", "none", "dynamic", "lite", "mobilenet0.25"),
    *("resnet50", "obj", "ply", "640x480", "480x640", "0x0", "640", "1x1", "original", "500,800"),
    *("99999x99999", "coco", "json", "wider", "retinaface", "fddb", "fddb-boxes", "processes"),
    *("loop", "localhost:1", "a:b", "x=1", "data.size=abc", "", "-", "[x]", "\udcff"),
)
# These wait for callers, use the network or train for minutes.
LEFT_OUT = {("serve",), ("train",), ("train-mesh",), ("benchmark",), ("demo",)}


def leaves(command: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], list]:
    """{words of a command: its parameters}."""
    if hasattr(command, "commands"):
        found = {}
        for name, inner in command.commands.items():
            found |= leaves(inner, (*path, name))
        return found
    return {} if path in LEFT_OUT else {path: command.params}


def all_commands() -> dict[tuple[str, ...], list]:
    """Of `retinaface-tf`."""
    from retinaface_tf import cli

    if not cli.app.registered_commands:
        cli.with_commands()
    return leaves(typer.main.get_command(cli.app))


def command_line(commands: dict, rng: np.random.Generator) -> list[str]:
    """A random command with random options and values."""
    path = list(commands)[int(rng.integers(len(commands)))]
    words, options = list(path), [p for p in commands[path] if p.param_type_name == "option"]
    arguments = [p for p in commands[path] if p.param_type_name == "argument"]
    chosen = rng.permutation(len(options))[: int(rng.integers(0, 5))]
    for option in (options[int(i)] for i in chosen):
        name = option.opts[int(rng.integers(len(option.opts)))]
        words += [name] if option.is_flag else [name, value_of(option, rng)]
    for argument in arguments:
        count = int(rng.integers(1, 4)) if argument.nargs != 1 else 1
        words += [value_of(argument, rng) for _ in range(count)]
    if rng.random() < 0.1:
        del words[int(rng.integers(len(words)))]
    return words


def value_of(parameter: Any, rng: np.random.Generator) -> str:
    """One that mostly fits what the parameter is."""
    kind = str(parameter.type_descriptor.annotation).lower()
    if rng.random() < 0.1:
        pool = (NAMES, NUMBERS, WORDS)[int(rng.integers(3))]
    elif "int" in kind or "float" in kind:
        pool = NUMBERS
    elif "path" in kind:
        pool = NAMES
    else:
        pool = NAMES if rng.random() < 0.5 else WORDS
    return pool[int(rng.integers(len(pool)))]
