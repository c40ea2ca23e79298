"""`retinaface-tf export`: one command for each format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retinaface_tf.cli.options import Iou, Overwrite, Preset, Threshold
from retinaface_tf.config import DetectionSettings
from retinaface_tf.presets import DEFAULT_PRESET
from retinaface_tf.util.extras import KERAS, require

if TYPE_CHECKING:
    from retinaface_tf.models import RetinaFaceNetwork

app = typer.Typer(
    help="Write a network for phones, servers and other runtimes.", no_args_is_help=True
)

Model = Annotated[Path | None, typer.Option(help="A network of your own: .weights.h5 or .keras.")]
MaxFaces = Annotated[
    int | None, typer.Option(help="Most faces per image, the best ones; without it, all.")
]


def load_source(preset: str, model: Path | None) -> RetinaFaceNetwork:
    """The network in the file `model`, else the preset's with its trained weights."""
    from retinaface_tf.weights.choose_file import load_preset
    from retinaface_tf.weights.load import load_weights

    return load_weights(model) if model is not None else load_preset(preset)


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
            "--input-size",
            "--size",
            metavar="WIDTHxHEIGHT",
            help="Fixed input of the network (not the --size of detect): every image is scaled "
            "into it and they are searched together. Without it each is searched as `detect` does "
            "without --size.",
        ),
    ] = None,
    threshold: Threshold = DetectionSettings.threshold,
    iou: Iou = DetectionSettings.iou,
    max_faces: MaxFaces = None,
    max_pixels: Annotated[
        int,
        typer.Option(help="JPEG with more pixels, and others with half of that, are refused."),
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
    """Write a SavedModel that TF-Serving runs as it is: image files in, faces out."""
    require("export", *KERAS, for_="An export")
    from retinaface_tf.export.savedmodel import SavedModelOptions, free_version
    from retinaface_tf.export.savedmodel import export_savedmodel as write
    from retinaface_tf.inference.preprocess import parse_width_height

    options = SavedModelOptions(
        size=parse_width_height(size) if size else None,
        threshold=threshold,
        iou=iou,
        max_faces=max_faces,
        max_pixels=max_pixels,
        precision="float32" if quantize == "none" else quantize,
        freeze=freeze,
    )
    version = free_version(out, version)
    source = str(model) if model is not None else f"preset {preset}"
    path = write(load_source(preset, model), out, options, version=version, source=source)
    print(f"wrote {path}")


@app.command("tflite")
def export_tflite_file(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="File to write, NAME.tflite.")],
    preset: Preset = DEFAULT_PRESET,
    model: Model = None,
    size: Annotated[
        str,
        typer.Option(
            "--input-size",
            "--size",
            metavar="WIDTHxHEIGHT",
            help="Fixed input of the network (not the --size of detect), multiples of 32 for a file "
            "that takes any.",
        ),
    ] = "640x480",
    threshold: Threshold = DetectionSettings.threshold,
    iou: Iou = DetectionSettings.iou,
    max_faces: Annotated[int, typer.Option(help="Most faces of an image, the best.")] = 100,
    quantize: Annotated[
        str, typer.Option(help="none, float16, dynamic (int8 weights) or int8 (weights and maps).")
    ] = "none",
    calibration: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Photos like those int8 will see.")
    ] = None,
    input_type: Annotated[
        str | None, typer.Option(help="float32 or uint8; by default float32, for int8 uint8.")
    ] = None,
    with_nms: Annotated[
        bool, typer.Option("--with-nms", help="End in faces, not in raw heads; not for int8.")
    ] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Print every operator, its time and who runs it.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Write a TFLite/LiteRT file that describes itself."""
    require("export", *KERAS, for_="An export")
    from retinaface_tf.errors import ConfigError
    from retinaface_tf.export.calibration import CalibrationPhotos
    from retinaface_tf.export.tflite import PRECISIONS, export_tflite
    from retinaface_tf.inference.preprocess import parse_width_height
    from retinaface_tf.util.files import is_special

    precision = "float32" if quantize == "none" else quantize
    if precision not in PRECISIONS:
        raise ConfigError(f"--quantize {quantize} must be none, float16, dynamic or int8.")
    if input_type not in (None, "float32", "uint8"):
        raise ConfigError(f"--input-type {input_type} must be float32 or uint8.")
    require_output(out, ".tflite", model, overwrite)
    if report and is_special(out):
        raise ConfigError(f"--report reads what was written, which {out} does not keep.")
    shape = parse_width_height(size)
    suppression = suppression_of(with_nms, threshold, iou, max_faces)
    network = load_source(preset, model)
    photos = None
    if precision == "int8" and calibration is not None:
        photos = CalibrationPhotos(calibration, shape, network.config.pixel_mean)
    export_tflite(
        network,
        out,
        size=shape,
        precision=precision,
        calibration=photos,
        input_dtype=input_type,
        suppression=suppression,
        preset=None if model else preset,
        threshold=threshold,
        iou=iou,
    )
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB, {precision}, input {size}")
    if report:
        from retinaface_tf.export.operators import print_report

        print_report(out)


@app.command("onnx")
def export_onnx_file(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="File to write, NAME.onnx.")],
    preset: Preset = DEFAULT_PRESET,
    model: Model = None,
    threshold: Threshold = DetectionSettings.threshold,
    iou: Iou = DetectionSettings.iou,
    max_faces: MaxFaces = None,
    opset: Annotated[
        int,
        typer.Option(
            help="Version of ONNX's operators, 13 to 17; 19 to 22 with the operator DeformConv."
        ),
    ] = 17,
    with_nms: Annotated[
        bool, typer.Option("--with-nms", help="End in faces, by NonMaxSuppression.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Write an ONNX file for any batch and any size of images."""
    require("export", for_="Writing ONNX")
    from retinaface_tf.export.onnx import export_onnx

    require_output(out, ".onnx", model, overwrite)
    export_onnx(
        load_source(preset, model),
        out,
        opset=opset,
        suppression=suppression_of(with_nms, threshold, iou, max_faces),
        preset=None if model else preset,
        threshold=threshold,
        iou=iou,
    )
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB, opset {opset}")


def require_output(out: Path, suffix: str, model: Path | None, overwrite: bool) -> None:
    """Refuses a file in the way, see `require_free`, and a name with another ending: commands go by it."""
    from retinaface_tf.errors import ConfigError
    from retinaface_tf.util.files import require_free

    if out.suffix.lower() != suffix:
        raise ConfigError(f"Cannot write {out}: give a name that ends in {suffix}.")
    require_free(out, filter(None, [model]), overwrite=overwrite)


def suppression_of(wanted: bool, threshold: float, iou: float, max_faces: int | None):
    """The checked settings of post-processing in the graph; None where it is not wanted."""
    from retinaface_tf.modelfile.metadata import Suppression

    settings = Suppression(threshold=threshold, iou=iou, max_faces=max_faces)
    return settings if wanted else None
