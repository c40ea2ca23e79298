"""A network's file opened by the runtime that fits it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from retinaface_tf.errors import ConfigError
from retinaface_tf.inference.runtimes.runtime import Runtime

RUNTIMES = ("litert", "keras", "onnx")


def open_runtime(
    path: Path,
    name: str | None = None,
    *,
    threads: int | None = None,
    notify: Callable[[str], None] | None = None,
) -> Runtime:
    """The network in a file, ready to run.

    Args:
        path: `.weights.h5`, `.weights.npz` or `.keras`, or `.tflite` or `.onnx` as `retinaface-tf export` writes.
        name: one of `RUNTIMES`; None takes the one that fits the file, litert for weights.
        threads: cores that litert and onnx use; None for all.
        notify: is told of the one-time conversion of weights for litert or onnx.

    Raises:
        ConfigError: no runtime has that name, or it does not run such files.
        WeightsError: the file is missing, damaged or of another kind.
    """
    if threads is not None and threads < 1:
        raise ConfigError(f"threads={threads} must be at least 1.")
    path, name = runnable_file(path, name, notify=notify)
    if name == "keras":
        from retinaface_tf.inference.runtimes.keras import KerasRuntime
        from retinaface_tf.weights.load import load_weights

        return KerasRuntime(load_weights(path))
    if name == "onnx":
        from retinaface_tf.inference.runtimes.onnx import OnnxRuntime

        return OnnxRuntime(path, threads=threads)
    from retinaface_tf.inference.runtimes.litert import LiteRTRuntime

    return LiteRTRuntime(path, threads=threads)


def runnable_file(
    path: Path, name: str | None = None, *, notify: Callable[[str], None] | None = None
) -> tuple[Path, str]:
    """The file that a runtime reads, converted from weights where it must be, and the runtime's name.

    Arguments and errors as `open_runtime`.
    """
    path = Path(path)
    fitting = {".tflite": "litert", ".onnx": "onnx"}.get(path.suffix.lower())
    name = name or fitting or "litert"
    if name not in RUNTIMES:
        raise ConfigError(f"There is no runtime {name!r}; choose one of {', '.join(RUNTIMES)}.")
    if fitting not in (None, name):
        raise ConfigError(f"The runtime {name!r} does not run {path}; {fitting!r} does.")
    if name == "keras" or fitting is not None:
        return path, name
    from retinaface_tf.inference.runtimes.compiled import compile_weights

    return compile_weights(path, ".onnx" if name == "onnx" else ".tflite", notify=notify), name


def preset_weights(
    preset: str,
    name: str | None = None,
    *,
    precision: str = "float32",
    notify: Callable[[str], None] | None = None,
) -> Path:
    """The file with a preset's trained weights, to be given to `open_runtime`.

    Weights in this package have one that LiteRT runs as it is; others are pulled first.

    Args:
        preset: see `list_presets`.
        name: of the runtime that is to run them, see `open_runtime`.
        precision: "float32", or "int8" for LiteRT where the package has such a file.
        notify: is given a line on what is fetched and its licence; None for silence.

    Raises:
        ConfigError: no preset has that name, or there is no such precision of it.
        WeightsError: the preset has no weights, or they are not to be had.
    """
    from retinaface_tf.presets import PackagedSource, get_preset
    from retinaface_tf.sources.packaged import shipped_file
    from retinaface_tf.weights.pull import resolve

    if precision not in ("float32", "int8"):
        raise ConfigError(f"precision={precision!r} must be float32 or int8.")
    source = get_preset(preset).source
    if isinstance(source, PackagedSource):
        if name in (None, "litert"):
            return shipped_file(source, precision)
        if precision != "float32":
            raise ConfigError(f"precision={precision!r} is for the runtime litert, not {name!r}.")
    elif precision != "float32":
        raise ConfigError(
            f"Preset {preset!r} has no int8 file; make one with `retinaface-tf export tflite "
            f"--preset {preset} --quantize int8 --calibration PHOTOS` and use that."
        )
    return resolve(preset, notify=notify)


def open_preset(
    preset: str,
    name: str = "litert",
    *,
    precision: str = "float32",
    threads: int | None = None,
    notify: Callable[[str], None] | None = None,
) -> Runtime:
    """A preset's network with its trained weights, fetched if they are not here.

    Args:
        preset: see `list_presets`.
        name, threads: as in `open_runtime`.
        precision: as in `preset_weights`.
        notify: is given a line on what is fetched and its licence; None for silence.

    Raises:
        ConfigError: no preset or runtime has that name, or not that precision.
        WeightsError: the preset has no weights, or they are damaged, or not to be had.
    """
    weights = preset_weights(preset, name, precision=precision, notify=notify)
    return open_runtime(weights, name, threads=threads, notify=notify)
