"""Whether scripts would take their arguments, without their work: python -m tests.helpers.parse_command < commands.json

Reads a list of [script, arguments...] and prints a list of messages, "" for each that the script's own parser takes.
A process of its own: some scripts change modules as they are imported.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.abc
import importlib.machinery
import io
import json
import runpy
import sys
from pathlib import Path
from unittest.mock import MagicMock

import typer

import retinaface_tf.cli

STUBBED = ("keras", "matplotlib", "scipy", "tensorflow", "torch", "retinaface_tf.layers")


class Stubs(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Takes the place of packages that are slow to import, or not installed: parsers do without them."""

    def find_spec(self, name, path=None, target=None):
        if name.startswith(STUBBED):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return MagicMock(name=spec.name)

    def exec_module(self, module): ...


class Parsed(BaseException):
    """The arguments were taken."""


def message(script: str, *arguments: str) -> str:
    """What the script's parser says of the arguments; "" where it takes them."""
    said = io.StringIO()
    sys.argv = [script, *arguments]
    sys.path.insert(0, str(Path(script).parent))
    try:
        with contextlib.redirect_stderr(said):
            runpy.run_path(script, run_name="__main__")
    except Parsed:
        return ""
    except ModuleNotFoundError as error:  # a package of the script's own that is not here
        ours = ("benchmarks", "retinaface_tf", "tests", "training")
        return repr(error) if str(error.name).startswith(ours) else ""
    except (SystemExit, Exception) as error:  # Typer's own class has moved
        return said.getvalue().strip() or repr(error)
    finally:
        del sys.path[0]
    return "It ran to its end without parsing arguments."


def stop_behind_parsers() -> None:
    """argparse's and Typer's parsers raise `Parsed` once they have taken the arguments."""
    take = argparse.ArgumentParser.parse_args

    def parse_args(self, *given):
        take(self, *given)
        raise Parsed

    def run_script(command):
        script = typer.Typer(add_completion=False)
        script.command()(command)
        typer.main.get_command(script).make_context(sys.argv[0], sys.argv[1:])
        raise Parsed

    argparse.ArgumentParser.parse_args = parse_args
    retinaface_tf.cli.run_script = run_script


if __name__ == "__main__":
    sys.meta_path.insert(0, Stubs())
    stop_behind_parsers()
    commands = json.load(sys.stdin)
    answers = sys.stdout
    with contextlib.redirect_stdout(io.StringIO()):
        found = [message(*command) for command in commands]
    json.dump(found, answers)
