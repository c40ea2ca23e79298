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


@app.command("savedmodel")
def export_savedmodel(
    out: Annotated[
        Path, typer.Argument(help="Folder of the model; OUT/1, OUT/2, ... are written.")
    ],
    preset: Preset = DEFAULT_PRESET,
    model: Model = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="WIDTHxHEIGHT",
            help="Scale every picture into this and search them together; without it each is "
            "searched at its own size, as `detect` does.",
        ),
    ] = None,
    threshold: Threshold = 0.5,
    iou: Iou = 0.4,
    max_faces: MaxFaces = 100,
    max_pixels: Annotated[
        int, typer.Option(help="Pictures with more pixels are refused by their header.")
    ] = 100_000_000,
    quantize: Annotated[
        str, typer.Option(help="Number type of weights and network: none, float16 or bfloat16.")
    ] = "none",
    freeze: Annotated[
        bool, typer.Option(help="Weights as constants of the graph (faster), not variables.")
    ] = True,
    version: Annotated[
        int | None, typer.Option(help="Number of the version; without it the next free one.")
    ] = None,
) -> None:
    """Write a SavedModel that TF-Serving runs as it is: picture files in, faces out."""
    from retinaface_tf.export.savedmodel import SavedModelOptions, parse_frame
    from retinaface_tf.export.savedmodel import export_savedmodel as write

    options = SavedModelOptions(
        size=parse_frame(size),
        threshold=threshold,
        iou=iou,
        max_faces=max_faces,
        max_pixels=max_pixels,
        precision="float32" if quantize == "none" else quantize,
        freeze=freeze,
    )
    source = str(model) if model is not None else f"preset {preset}"
    path = write(
        load_source(preset, model), out, options, version=version, metadata={"source": source}
    )
    print(f"wrote {path}")
