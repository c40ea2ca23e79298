"""The command line `retinaface-tf`: each command is a module that imports what it needs when run."""

from __future__ import annotations

import os
import sys

import typer

from retinaface_tf.errors import RetinaFaceError

# Start-up and decoder notes of TensorFlow and OpenCV are for their developers; set before anything
# can import them.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

app = typer.Typer(
    name="retinaface-tf",
    help="Find faces in photos: detect, train, evaluate, export.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Entry point: an expected error is one sentence on stderr and exit code 1."""
    _register_commands()
    try:
        app()
    except RetinaFaceError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _register_commands() -> None:
    from retinaface_tf.cli import (
        benchmark,
        data,
        detect,
        evaluate,
        export,
        launch,
        presets,
        serve,
        train,
        train_mesh,
        weights,
    )

    app.command("detect")(detect.detect)
    app.command("demo")(detect.demo)
    app.command("train")(train.train)
    app.command("launch")(launch.launch)
    app.command("train-mesh")(train_mesh.train_mesh)
    app.command("serve")(serve.serve)
    app.command("presets")(presets.presets)
    app.command("benchmark")(benchmark.benchmark)
    app.add_typer(data.app, name="data")
    app.add_typer(evaluate.app, name="evaluate")
    app.add_typer(export.app, name="export")
    app.add_typer(weights.app, name="weights")
