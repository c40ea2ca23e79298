"""Which file runs: a preset's, in this package or pulled (fetched, converted, cached), or one made of weights."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from retinaface_tf.errors import ConfigError, WeightsError
from retinaface_tf.modelfile.metadata import read_checked
from retinaface_tf.modelfile.revision import REVISION
from retinaface_tf.presets import get_preset, list_presets
from retinaface_tf.sources.source import PRECISIONS, WeightsSource
from retinaface_tf.util.cache import cache_folder, require_writable
from retinaface_tf.util.extras import KERAS, is_installed, require
from retinaface_tf.util.files import sha256_of, write_whole
from retinaface_tf.util.process import child_environment
from retinaface_tf.weights.load import load_weights, require_file, require_own_format

if TYPE_CHECKING:
    from retinaface_tf.models import RetinaFaceNetwork

# What each runtime reads of a preset, the kind of file as sources know it.
KIND_OF_RUNTIME = {
    "litert": "tflite",
    "onnx": "onnx",
    "keras": "weights",
    "openvino": "tflite",
    "openvino-bf16": "tflite",
}
RUNTIMES = tuple(KIND_OF_RUNTIME)
# What "auto" takes the first of that is installed.
_MODULES = {"litert": "ai_edge_litert", "onnx": "onnxruntime", "keras": "keras"}
# Runtimes of files that are no weights, the one that "auto" takes first.
_FITTING = {
    ".tflite": ("litert", "openvino", "openvino-bf16"),
    ".onnx": ("onnx", "openvino", "openvino-bf16"),
}
_SECONDS = 900


def choose_runtime(name: str | None = "auto", path: Path | None = None) -> str:
    """The runtime of that name; of "auto" the one that is taken.

    That is litert for a .tflite and onnx for an .onnx. Weights, and presets, run in the first of
    litert, onnx and keras that is installed, so that TensorFlow is started only where there is
    nothing lighter. "fastest" is openvino-bf16 where OpenVINO is installed and the processor computes
    in bfloat16, openvino on others, and "auto" where it is not installed.

    Args:
        name: of `RUNTIMES`, "auto", "fastest", or None for "auto".
        path: of the network's file; None for a preset.

    Raises:
        ConfigError: no runtime has that name, or it does not run such files.
    """
    fitting = _FITTING.get(path.suffix.lower()) if path else None
    if name == "fastest":
        if is_installed("openvino"):
            return "openvino-bf16" if computes_in_bfloat16() else "openvino"
        name = "auto"
    if name in (None, "auto"):
        there = (runtime for runtime, module in _MODULES.items() if is_installed(module))
        return fitting[0] if fitting else next(there, RUNTIMES[0])
    if name not in RUNTIMES:
        raise ConfigError(
            f"There is no runtime {name!r}; choose one of auto, fastest, {', '.join(RUNTIMES)}."
        )
    if fitting and name not in fitting:
        raise ConfigError(f"The runtime {name!r} does not run {path}; {fitting[0]!r} does.")
    return name


def computes_in_bfloat16() -> bool:
    """Whether OpenVINO, which must be installed, has instructions of this processor for it."""
    import openvino

    kinds: list[str] = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "BF16" in kinds


def preset_file(
    preset: str,
    runtime: str | None = "auto",
    *,
    precision: str = "float32",
    notify: Callable[[str], None] = lambda line: None,
) -> Path:
    """The file with a preset's trained weights that suits a runtime best, fetched if it is not here.

    Args:
        preset: see `list_presets`.
        runtime: see `choose_runtime`.
        precision: of `PRECISIONS`; others than "float32" only where the source has such a file.
        notify: is given a line on what is fetched and its licence.

    Raises:
        ConfigError: no preset or runtime has that name, or there is no such precision of it.
        WeightsError: the preset has no weights, or they cannot be fetched.
    """
    runtime = choose_runtime(runtime)
    kind = KIND_OF_RUNTIME[runtime]
    if precision not in PRECISIONS:
        raise ConfigError(f"precision={precision!r} must be {' or '.join(PRECISIONS)}.")
    source = weights_source(preset)
    ready = source.file(kind, precision)
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


def weights_source(preset: str) -> WeightsSource:
    """Where a preset's trained weights come from.

    Raises:
        ConfigError: no preset has that name.
        WeightsError: it has no trained weights.
    """
    source = get_preset(preset).source
    if source is None:
        trained = [name for name in list_presets() if get_preset(name).source]
        raise WeightsError(
            f"Preset {preset!r} has no weights; {', '.join(trained)} have. Or convert a file of yours "
            "with `retinaface-tf weights convert`."
        )
    return source


def weights_path(preset: str) -> Path:
    """Where a preset's weights are, or will be once pulled; the name follows the trained data.

    Raises:
        ConfigError: no preset has that name.
        WeightsError: it has no trained weights, or lacks those of this package.
    """
    source = weights_source(preset)
    ready = source.file("weights")
    if ready is not None:
        return ready
    known = get_preset(preset)
    name = f"{known.name}-{source.digest[:12]}"
    head = known.dense_head
    if head is not None:
        from retinaface_tf.weights.dense_head_file import head_digest

        name = f"{name}-{head_digest(head)}"
    return cache_folder() / f"{name}.weights.h5"


def runnable_file(
    path: str | os.PathLike[str],
    runtime: str | None = "auto",
    *,
    notify: Callable[[str], None] = lambda line: None,
) -> tuple[Path, str]:
    """The file that a runtime reads, converted from weights where it must be, and the runtime.

    Args:
        path: `.weights.h5`, `.weights.npz` or `.keras`, or `.tflite` or `.onnx` as
            `retinaface-tf export` writes.
        runtime: see `choose_runtime`.
        notify: is given a line before the one-time conversion.

    Raises:
        ConfigError: no runtime has that name, or it does not run such files.
        MissingPackage: what converts them is not installed.
        WeightsError: weights are missing or damaged, or the cache cannot be written.
    """
    path = Path(path)
    runtime = choose_runtime(runtime, path)
    kind = KIND_OF_RUNTIME[runtime]
    if kind == "weights" or path.suffix.lower() in _FITTING:
        return path, runtime
    weights = require_file(path)
    target = cache_folder() / "compiled" / f"{sha256_of(weights)[:16]}-{REVISION}.{kind}"
    try:
        read_checked(target)
    except WeightsError:  # not there, damaged, or of another version
        _compile(weights, kind, target, notify)
    return target, runtime


def pull(
    preset: str,
    *,
    given: Path | None = None,
    force: bool = False,
    notify: Callable[[str], None] = lambda line: None,
) -> Path:
    """A preset's weights, fetched and converted unless they are here.

    Args:
        preset: its name.
        given: the file that would be fetched, brought from elsewhere; its sha256 is checked.
        force: fetch again, replacing what is cached.
        notify: is given origin and licence and what is being done, a line at a time.

    Returns:
        Path of a `.weights.h5` file, or of the `.weights.npz` in this package.

    Raises:
        ConfigError: no preset has that name.
        MissingPackage: what converts them is not installed.
        WeightsError: it has no weights, they cannot be fetched, their bytes are not the
            expected ones, or the cache cannot be written.
    """
    source, target = weights_source(preset), weights_path(preset)
    origin, *lines = source.describe()
    for line in (f"{preset}: {origin}", *lines):
        notify(line)
    packaged = source.file("weights") is not None
    if packaged and given is not None:
        raise ConfigError(f"The weights of {preset!r} are in this package; leave out {given}.")
    if packaged or (target.is_file() and given is None and not force):
        return target
    require("export", for_=f"Converting the weights of preset {preset!r}, once,")
    require_writable(target.parent)
    with tempfile.TemporaryDirectory(prefix="retinaface-tf-") as folder:
        original, licence = source.fetch(Path(folder), notify, given)
        notify(f"converting into {target}")
        _convert(preset, original, licence, target)
    return target


def load_preset(
    preset: str, *, notify: Callable[[str], None] = lambda line: None
) -> RetinaFaceNetwork:
    """A preset's network with its trained weights, pulled first if they are not here.

    Raises:
        WeightsError: as `pull`, or the file is damaged; the message says how to get it again.
    """
    path = weights_path(preset)
    if not path.is_file():
        pull(preset, notify=notify)
    try:
        return load_weights(path, get_preset(preset).config)
    except WeightsError:
        packaged = weights_source(preset).file("weights") is not None
        remedy = (
            "install retinaface-tf again"
            if packaged
            else f"run `retinaface-tf weights pull {preset} --force`"
        )
        raise WeightsError(
            f"The weights {path} are damaged or of another version; {remedy}."
        ) from None


def _convert(preset: str, original: Path, licence: str, target: Path) -> None:
    """Writes licence, original and converted weights, each whole; the last makes the pull count."""
    from retinaface_tf.weights.convert.convert import convert_weights
    from retinaface_tf.weights.hdf5 import save_weights

    known = get_preset(preset)
    network = convert_weights(original, known.config, known.trained_on)
    head = known.dense_head
    if head is not None:
        from retinaface_tf.weights.dense_head_file import fill_head, packaged_head

        fill_head(network, packaged_head(head), head)
    stem = target.name.removesuffix(".weights.h5")
    write_whole(target.with_name(f"{stem}.LICENSE.txt"), licence.encode())
    write_whole(target.with_name(stem + original.suffix), original.read_bytes())
    save_weights(network, target)


def _compile(weights: Path, kind: str, target: Path, notify: Callable[[str], None]) -> None:
    """Has `retinaface-tf export` make a .tflite or .onnx of a weights file.

    TensorFlow converts in a process of its own, so that this one stays small and quick.
    """
    require_own_format(weights)
    packages = () if kind == "onnx" else KERAS
    require("export", *packages, for_=f"Converting {weights} to .{kind}")
    require_writable(target.parent)
    notify(f"preparing {weights.name} as .{kind}, once (about 20 s)")
    command = [sys.executable, "-P", "-m", "retinaface_tf", "export", kind, str(target)]
    command += ["--model", str(weights.absolute()), "--overwrite"]
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
