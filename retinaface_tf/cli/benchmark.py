"""`retinaface-tf benchmark`."""

from pathlib import Path
from typing import Annotated

import typer

from retinaface_tf.cli.evaluation_run import show
from retinaface_tf.cli.options import Overwrite
from retinaface_tf.presets import DEFAULT_PRESET


def benchmark(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Runtimes of the preset (litert, onnx, openvino, openvino-bf16, keras, auto, fastest), files (.tflite, .onnx, "
            ".weights.h5, .keras) or SavedModel folders.",
        ),
    ],
    preset: Annotated[str, typer.Option(help="Preset that the runtimes run.")] = DEFAULT_PRESET,
    sizes: Annotated[str, typer.Option(help="WIDTHxHEIGHT,... of the images.")] = "640x480",
    threads: Annotated[str, typer.Option(help="Numbers of threads, such as 1,2.")] = "1",
    rounds: Annotated[int, typer.Option(help="Timed images of each model at each size.")] = 30,
    photo: Annotated[
        Path | None, typer.Option(help="Photo to time; without it, a portrait by NASA.")
    ] = None,
    gt: Annotated[
        Path | None, typer.Option(help="Boxes in WIDER FACE's list format, for accuracy.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of the images in --gt.")] = None,
    limit: Annotated[
        int | None, typer.Option(help="Use only this many of them, evenly spread.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write every time and figure here.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write accuracy against latency, .png.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Compare models and runtimes in one run: latency, memory, size, load time, accuracy.

    Times are end to end, pixels in and faces out, post-processing included. The models take turns
    image by image.
    """
    import json as codec

    from retinaface_tf.errors import ConfigError
    from retinaface_tf.evaluation.speed import Candidate, measure
    from retinaface_tf.inference.preprocess import parse_width_height
    from retinaface_tf.sources.demo_photo import demo_photo
    from retinaface_tf.util.extras import require
    from retinaface_tf.util.files import require_free, write_whole
    from retinaface_tf.util.process import to_stderr

    if (gt is None) != (images is None):
        raise ConfigError("Accuracy needs both --gt and --images.")
    if plot and gt is None:
        raise ConfigError("--plot shows accuracy: give --gt and --images.")
    if rounds < 1 or (limit is not None and limit < 1):
        raise ConfigError("--rounds and --limit must be at least 1.")
    if plot:
        require("evaluate", "matplotlib", for_="--plot")
    counts = threads.split(",")
    if not all(count.isdigit() and int(count) > 0 for count in counts):
        raise ConfigError(f"--threads {threads!r} must be numbers such as 1,2.")
    shapes = [parse_width_height(size) for size in sizes.split(",")]
    candidates = [Candidate(model, int(count), preset) for model in models for count in counts]
    for out in filter(None, (json, plot)):
        require_free(out, filter(None, (*models, photo, gt)), overwrite=overwrite)
    results = measure(
        candidates,
        photo or demo_photo(to_stderr),
        shapes,
        rounds=rounds,
        labelled=_labelled(gt, images, limit),
        notify=to_stderr,
    )
    _print_table(results)
    if json:
        text = codec.dumps([result.to_dict() for result in results], indent=1)
        write_whole(json, text)
    if plot:
        from retinaface_tf.evaluation.plots import speed_plot

        write_whole(plot, speed_plot(results, next(iter(results[0].seconds))))


def _labelled(gt: Path | None, images: Path | None, limit: int | None) -> list:
    if gt is None:
        return []
    from retinaface_tf.data.readers.widerface import read_widerface

    found = read_widerface(gt, images)
    return found[:: max(1, -(-len(found) // limit))] if limit else found


def _print_table(results: list) -> None:
    rows = []
    for size in results[0].seconds:
        first = results[0].percentiles(size)[0]
        for result in results:
            p50, p90, p99 = result.percentiles(size)
            ap = result.average_precision
            rows.append(
                [
                    result.name,
                    result.runtime,
                    size,
                    *(f"{milliseconds:.2f}" for milliseconds in (p50, p90, p99)),
                    f"{p50 / first:.2f}",
                    f"{result.start_seconds:.2f}",
                    f"{result.load_seconds:.2f}",
                    f"{result.peak_bytes / 1e6:.0f}",
                    f"{result.file_bytes / 1e6:.2f}",
                    "" if ap is None else f"{100 * ap:.2f}",
                ]
            )
    header = "model,runtime,size,p50 ms,p90,p99,x first,start s,load s,memory MB,file MB,AP"
    show("Pixels in, faces out, end to end", header.split(","), rows)
