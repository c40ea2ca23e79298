"""Options that several commands share, each with one help text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

T = TypeVar("T")

Preset = Annotated[str, typer.Option(help="Named network; `retinaface-tf presets` lists them.")]
Model = Annotated[
    Path | None, typer.Option(help="A network of your own: .weights.h5, .keras, .tflite or .onnx.")
]
Precision = Annotated[
    str, typer.Option(help="float32, or int8 for presets that have such a file: faster.")
]
Runtime = Annotated[str | None, typer.Option(help="What runs the network: litert, keras or onnx.")]
Threshold = Annotated[float, typer.Option(help="Least score of a face, 0 to 1.")]
Iou = Annotated[float, typer.Option(help="Overlap above which the worse detection is dropped.")]
Size = Annotated[
    str | None,
    typer.Option(
        help="Scale the short edge to this many pixels (SHORT or SHORTxMAX), or 'original'. "
        "Without it images are searched as they are, larger ones shrunk to 2048 pixels."
    ),
]
MaxFaces = Annotated[int | None, typer.Option(help="Keep only this many of an image, the best.")]
BatchSize = Annotated[int, typer.Option(help="Images given to the network at once.")]
Threads = Annotated[int | None, typer.Option(help="Cores to use. [default: all]")]


def fill(kind: type[T], values: dict[str, Any]) -> T:
    """A dataclass of options, filled from a command's arguments of the same names."""
    return kind(**{name: values[name] for name in kind.__dataclass_fields__})
