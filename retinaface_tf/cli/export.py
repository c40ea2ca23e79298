"""`retinaface-tf export`: one command for each format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from retinaface_tf.models import RetinaFaceNetwork

DEFAULT_PRESET = "mobilenet0.25"

app = typer.Typer(
    help="Write a network for phones, servers and other runtimes.", no_args_is_help=True
)

Preset = Annotated[str, typer.Option(help="Named network; `retinaface-tf presets` lists them.")]
Model = Annotated[Path | None, typer.Option(help="A network of your own: .weights.h5 or .keras.")]
Threshold = Annotated[float, typer.Option(help="Least score of a face, 0 to 1.")]
Iou = Annotated[float, typer.Option(help="Overlap above which the worse detection is dropped.")]
MaxFaces = Annotated[int, typer.Option(help="Most faces of a picture.")]


def load_source(preset: str, model: Path | None) -> RetinaFaceNetwork:
    """The network in the file `model`, else the preset's with its trained weights."""
    from retinaface_tf.pull import load_preset
    from retinaface_tf.weights import load_model

    return load_model(model) if model is not None else load_preset(preset)
