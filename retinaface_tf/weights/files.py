"""Which file a runtime runs: of a preset, or made of a weights file once and cached."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from retinaface_tf.errors import ConfigError, WeightsError
from retinaface_tf.modelfile.revision import REVISION
from retinaface_tf.sources.source import PRECISIONS
from retinaface_tf.util.cache import cache_folder, require_writable
from retinaface_tf.util.files import sha256_of
from retinaface_tf.util.process import child_environment
from retinaface_tf.weights.load import require_file
from retinaface_tf.weights.pull import pull, weights_path, weights_source

# What each runtime reads: the kind of file as sources know it.
KIND_OF_RUNTIME = {"litert": "tflite", "keras": "weights", "onnx": "onnx"}
RUNTIMES = tuple(KIND_OF_RUNTIME)
_SECONDS = 900


def preset_file(
    preset: str,
    runtime: str | None = None,
    *,
    precision: str = "float32",
    notify: Callable[[str], None] = lambda line: None,
) -> Path:
    """The file with a preset's trained weights that suits a runtime best, fetched if it is not here.

    Args:
        preset: see `list_presets`.
        runtime: of `RUNTIMES`; None is litert.
        precision: of `PRECISIONS`; others than "float32" only where the source has such a file.
        notify: is given a line on what is fetched and its licence.

    Raises:
        ConfigError: no preset or runtime has that name, or there is no such precision of it.
        WeightsError: the preset has no weights, or they cannot be fetched.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"precision={precision!r} must be {' or '.join(PRECISIONS)}.")
    source = weights_source(preset)
    ready = source.file(_kind(runtime), precision)
    if ready is not None:
        return ready
    if precision != "float32":
        if source.file("tflite", precision) is not None:
            raise ConfigError(
                f"precision={precision!r} is for the runtime litert, not {runtime!r}."
            )
        raise ConfigError(
            f"Preset {preset!r} has no int8 file; make one with `retinaface-tf export tflite "
            f"--preset {preset} --quantize int8 --calibration PHOTOS` and use that."
        )
    path = weights_path(preset)
    return path if path.is_file() else pull(preset, notify=notify)


def runnable_file(
    path: str | Path,
    runtime: str | None = None,
    *,
    notify: Callable[[str], None] = lambda line: None,
) -> tuple[Path, str]:
    """The file that a runtime reads, converted from weights where it must be, and the runtime.

    Args:
        path: `.weights.h5`, `.weights.npz` or `.keras`, or `.tflite` or `.onnx` as
            `retinaface-tf export` writes.
        runtime: of `RUNTIMES`; None takes the one that fits the file, litert for weights.
        notify: is given a line before the one-time conversion.

    Raises:
        ConfigError: no runtime has that name, or it does not run such files.
        WeightsError: weights are missing or damaged, or the cache cannot be written.
    """
    path = Path(path)
    fitting = {".tflite": "litert", ".onnx": "onnx"}.get(path.suffix.lower())
    kind = _kind(runtime or fitting)
    runtime = runtime or fitting or "litert"
    if fitting not in (None, runtime):
        raise ConfigError(f"The runtime {runtime!r} does not run {path}; {fitting!r} does.")
    if kind == "weights" or fitting is not None:
        return path, runtime
    return compile_weights(path, kind, notify=notify), runtime


def compiled_path(weights: Path, kind: str = "tflite") -> Path:
    """Where the .tflite or .onnx of a weights file is cached; its name follows their bytes."""
    return cache_folder() / "compiled" / f"{sha256_of(weights)[:16]}-{REVISION}.{kind}"


def compile_weights(
    weights: str | Path,
    kind: str = "tflite",
    *,
    notify: Callable[[str], None] = lambda line: None,
) -> Path:
    """The .tflite or .onnx of a weights file, made on first use by `retinaface-tf export`.

    TensorFlow converts in a process of its own, so that this one stays small and quick.

    Args:
        weights: `.weights.h5`, `.weights.npz` or `.keras`.
        kind: "tflite" or "onnx".
        notify: is given a line before the conversion, which takes about 20 seconds.

    Raises:
        WeightsError: the weights are missing or damaged, a package that converts is missing, or the
            cache cannot be written.
    """
    weights = require_file(weights)
    target = compiled_path(weights, kind)
    if target.is_file():
        return target
    require_writable(target.parent)
    notify(f"preparing {weights.name} as .{kind}, once (about 20 s)")
    command = [sys.executable, "-m", "retinaface_tf", "export", kind, str(target)]
    command += ["--model", str(weights.absolute())]
    if kind == "tflite":
        command += ["--size", "128x128"]  # small converts fast, and the runtime resizes it
    environment = child_environment(KERAS_BACKEND="tensorflow", CUDA_VISIBLE_DEVICES="-1")
    try:
        subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            check=True,
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise WeightsError(
            f"Converting {weights} to .{kind} took more than {_SECONDS} s; try --runtime keras."
        ) from None
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["no message"])[-1]
        sentence = last.removeprefix("error: ")
        if sentence == last:  # it crashed
            sentence = f"{weights} cannot be converted to .{kind} ({last}); try --runtime keras."
        raise WeightsError(sentence) from None
    return target


def _kind(runtime: str | None) -> str:
    if runtime is not None and runtime not in KIND_OF_RUNTIME:
        raise ConfigError(f"There is no runtime {runtime!r}; choose one of {', '.join(RUNTIMES)}.")
    return KIND_OF_RUNTIME[runtime or "litert"]
