"""Options that several commands share, each with one help text."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, get_type_hints

import typer

Preset = Annotated[str, typer.Option(help="Named network; `retinaface-tf presets` lists them.")]
Model = Annotated[
    Path | None, typer.Option(help="A network of your own: .weights.h5, .keras, .tflite or .onnx.")
]
Precision = Annotated[
    str, typer.Option(help="float32, or int8 for presets that have such a file: faster.")
]
Runtime = Annotated[
    str,
    typer.Option(
        help="What runs the network: litert, onnx, keras, openvino or openvino-bf16 (bfloat16); auto takes the "
        "one that fits the file, or the first that is installed, fastest OpenVINO where it is installed."
    ),
]
Providers = Annotated[
    str | None,
    typer.Option(
        metavar="LIST",
        help="Execution providers of onnxruntime, in order of preference: cuda, coreml, openvino, directml, ...; without it, the processor.",
    ),
]
Threshold = Annotated[float, typer.Option(help="Least score of a face, 0 to 1.")]
Iou = Annotated[float, typer.Option(help="Overlap above which the worse detection is dropped.")]
Size = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Pixels of the searched image's short edge: 1000; of its longest too: 1000x2000; or "
        "original. Without it images are searched as they are, larger ones shrunk to 2048 pixels.",
    ),
]
Zoom = Annotated[
    str,
    typer.Option(
        metavar="auto|off|N",
        help="Search enlarged tiles where faces may be too small, up to N times (2 to 16); auto: twice, and more where a large photo has the pixels.",
    ),
]
Budget = Annotated[
    str,
    typer.Option(
        metavar="TILES|MSms",
        help="Limit of --zoom for one image: a number of tiles, or a time such as 50ms.",
    ),
]
MaxFaces = Annotated[int | None, typer.Option(help="Most faces per image, the best ones.")]
BatchSize = Annotated[
    int, typer.Option(metavar="N", min=1, max=65536, help="Images given to the network at once.")
]
AllowPrivate = Annotated[
    bool,
    typer.Option("--allow-private", help="Read addresses of this machine and its network too."),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace existing results; never a file that is read.")
]
Threads = Annotated[int | None, typer.Option(help="Cores to use; without it, all.")]


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """A Typer command in which each parameter that is a dataclass stands for its fields as options.

    The fields' annotations and defaults are those of the options; the command gets the dataclass.
    """
    hints = get_type_hints(command, include_extras=True)
    groups = {name: kind for name, kind in hints.items() if dataclasses.is_dataclass(kind)}
    parameters = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name in groups:
            types = get_type_hints(groups[name], include_extras=True)
            fields = dataclasses.fields(groups[name])
            options = [(field.name, types[field.name], field.default) for field in fields]
        else:
            options = [(name, hints[name], parameter.default)]
        for option, kind, default in options:
            keyword = inspect.Parameter.KEYWORD_ONLY
            parameters.append(inspect.Parameter(option, keyword, default=default, annotation=kind))

    @functools.wraps(command)
    def run(**values):
        for name, kind in groups.items():
            fields = dataclasses.fields(kind)
            values[name] = kind(**{field.name: values.pop(field.name) for field in fields})
        command(**values)

    run.__signature__ = inspect.Signature(parameters)
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run
