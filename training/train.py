"""Trains a detector from a checkout: `python training/train.py --help`.

The same as `retinaface-tf train`, without the package being installed.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import typer

from retinaface_tf.cli.train import train
from retinaface_tf.errors import RetinaFaceError

if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(train)
    try:
        app()
    except RetinaFaceError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
