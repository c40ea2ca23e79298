"""The command line `retinaface-tf`: each command is a module that imports what it needs when run."""

import functools
import importlib
import os
import re
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from retinaface_tf import __version__
from retinaface_tf.cli.help import HelpfulGroup
from retinaface_tf.cli.options import grouped
from retinaface_tf.cli.terminal import DEBUG, sentences, set_up_streams
from retinaface_tf.errors import ConfigError
from retinaface_tf.util.registry import IMPORTS, import_modules

# Start-up and decoder notes of TensorFlow and OpenCV are for their developers; set before anything
# can import them.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

# Each command's module; in the order of the help.
_COMMANDS = {
    "detect": "detect",
    "demo": "detect",
    "blur": "blur",
    "group": "group",
    "train": "train",
    "launch": "train",
    "train-mesh": "train_mesh",
    "serve": "serve",
    "presets": "presets",
    "benchmark": "benchmark",
    "data": "data",
    "evaluate": "evaluate",
    "export": "export",
    "weights": "weights",
}
_ANYTHING = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
_OPTIONS = {"launch": {"hidden": True, "context_settings": _ANYTHING}}
_EMPTY = re.compile(r"--[\w-]+=")

app = typer.Typer(
    name="retinaface-tf",
    cls=HelpfulGroup,
    epilog="--debug with any command shows tracebacks and the frameworks' own notes.",
    no_args_is_help=True,
    invoke_without_command=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, help="Print the version and exit.")
    ] = False,
    import_: Annotated[
        list[str] | None,
        typer.Option(
            "--import",
            metavar="MODULE|FILE.py",
            envvar=IMPORTS,
            help="Import a module that registers a backbone, reader or loss of yours; repeatable.",
        ),
    ] = None,
) -> None:
    """Find faces in photos: detect, train, evaluate, export."""
    import_modules(import_ or ())
    if version:
        print(f"retinaface-tf {__version__}")
        raise typer.Exit


def main() -> None:
    """Entry point: whatever goes wrong is one sentence on stderr and exit code 1.

    `--debug` anywhere on the command line shows tracebacks and the frameworks' own notes.
    """
    _run(lambda: with_commands(*sys.argv[1:2]))


def run_script(command: Callable) -> None:
    """Runs a script's only command as `main` does those of `retinaface-tf`."""

    def script() -> typer.Typer:
        script = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        script.command()(command)
        return script

    _run(script)


def _run(commands: Callable[[], typer.Typer]) -> None:
    debug = DEBUG in sys.argv
    sys.argv = [word for word in sys.argv if word != DEBUG]
    set_up_streams(debug)
    with sentences(debug):
        if "" in sys.argv[1:] or any(_EMPTY.fullmatch(word) for word in sys.argv):
            raise ConfigError("One of the arguments is empty, such as a variable without a value.")
        commands()()


@functools.cache
def with_commands(only: str | None = None) -> typer.Typer:
    """`app` with its commands, or the only one that is asked for: their modules are imported now."""
    for name in [only] if only in _COMMANDS else _COMMANDS:
        module = importlib.import_module(f"retinaface_tf.cli.{_COMMANDS[name]}")
        if hasattr(module, "app"):
            app.add_typer(module.app, name=name)
        else:
            app.command(name, **_OPTIONS.get(name, {}))(
                grouped(getattr(module, name.replace("-", "_")))
            )
    return app
