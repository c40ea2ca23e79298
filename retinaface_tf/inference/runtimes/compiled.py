"""The one-time conversion of weights into the file that LiteRT or onnxruntime runs, and its cache."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import retinaface_tf
from retinaface_tf.errors import WeightsError

_SECONDS = 900
_CODE = (
    "import sys; from retinaface_tf.export.{module} import convert_weights_file; "
    "convert_weights_file(sys.argv[1], sys.argv[2])"
)
_MODULES = {".tflite": "tflite", ".onnx": "onnx"}
_NAMES = {".tflite": "LiteRT", ".onnx": "onnxruntime"}


def compiled_path(weights: Path, suffix: str = ".tflite") -> Path:
    """Where the .tflite or .onnx of a weights file is cached; its name follows their bytes."""
    from retinaface_tf.modelfile.revision import REVISION
    from retinaface_tf.weights.pull import cache_folder

    digest = hashlib.sha256(weights.read_bytes()).hexdigest()[:16]
    return cache_folder() / "compiled" / f"{digest}-{REVISION}{suffix}"


def compile_weights(
    weights: Path, suffix: str = ".tflite", *, notify: Callable[[str], None] | None = None
) -> Path:
    """The .tflite or .onnx of a `.weights.h5` or `.keras` file, made on first use.

    TensorFlow converts, in a process of its own, so that this one stays small and quick.

    Args:
        weights: the file.
        suffix: ".tflite" or ".onnx".
        notify: is told before the conversion, which takes some ten seconds.

    Raises:
        WeightsError: the weights are missing or damaged, or the cache cannot be written.
    """
    from retinaface_tf.weights.load import require_file

    weights = require_file(weights)
    target = compiled_path(weights, suffix)
    if target.is_file():
        return target
    if notify:
        notify(f"preparing {weights.name} for {_NAMES[suffix]}, once (about 20 s)")
    package = str(Path(retinaface_tf.__file__).resolve().parent.parent)
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "KERAS_BACKEND": "tensorflow",
        "CUDA_VISIBLE_DEVICES": "-1",
    }
    try:
        subprocess.run(
            [
                sys.executable,
                "-c",
                _CODE.format(module=_MODULES[suffix]),
                str(weights),
                str(target),
            ],
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            check=True,
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise WeightsError(
            f"Converting {weights} for {_NAMES[suffix]} took more than {_SECONDS} s; try --runtime keras."
        ) from None
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or ["no message"]
        message = lines[-1].removeprefix("retinaface_tf.errors.WeightsError: ")
        raise WeightsError(
            f"{weights} cannot be converted for {_NAMES[suffix]} ({message.rstrip('.')}); "
            "repair what it names, or try --runtime keras."
        ) from None
    return target
