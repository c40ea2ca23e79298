"""A real photo to try a detector on: as data out of scikit-image's wheel, fetched once through pip."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable
from pathlib import Path

from retinaface_tf.errors import WeightsError
from retinaface_tf.sources.wheel import download_wheel, read_member
from retinaface_tf.util.cache import cache_folder, require_writable
from retinaface_tf.util.files import write_whole

VERSION = "0.26.0"
WHEEL_SHA256 = "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af"
MEMBER = "skimage/data/astronaut.png"
# The one wheel whose digest is known.
_TARGET = (
    *("--python-version=3.11", "--implementation=cp", "--abi=cp311"),
    "--platform=manylinux_2_28_x86_64",
)


def demo_photo(notify: Callable[[str], None] = lambda line: None) -> Path:
    """A portrait by NASA with one face, 512x512 pixels, public domain.

    Args:
        notify: is given a line before it is fetched (14 MB), where scikit-image is not installed.

    Raises:
        WeightsError: it cannot be fetched, or the cache not be written.
    """
    installed = importlib.util.find_spec("skimage")
    if installed is not None and installed.origin is not None:
        return Path(installed.origin).parent / "data" / "astronaut.png"
    target = cache_folder() / "astronaut.png"
    if target.is_file():
        return target
    try:
        return _fetch(target, notify)
    except WeightsError as error:
        raise WeightsError(f"{str(error).rstrip('.')}; or give a photo of yours.") from None


def _fetch(target: Path, notify: Callable[[str], None]) -> Path:
    require_writable(target.parent)
    notify(f"fetching a portrait by NASA, in scikit-image {VERSION}, through pip (14 MB)")
    with tempfile.TemporaryDirectory(prefix="retinaface-tf-") as folder:
        wheel = download_wheel(
            *("scikit-image", VERSION, WHEEL_SHA256, "the photo by NASA"), Path(folder), _TARGET
        )
        return write_whole(target, read_member(wheel, MEMBER)[0])
