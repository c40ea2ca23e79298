"""The folder where fetched and converted files are kept."""

import os
import tempfile
from pathlib import Path

from retinaface_tf.errors import WeightsError

CACHE_VARIABLE = "RETINAFACE_TF_CACHE"


def cache_folder() -> Path:
    """`$RETINAFACE_TF_CACHE`, or the platform's cache folder."""
    import platformdirs

    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("retinaface-tf", False))


def require_writable(folder: Path) -> None:
    """Makes a folder of the cache.

    Raises:
        WeightsError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise WeightsError(
            f"The cache folder {folder} cannot be written ({error.strerror}); "
            f"set {CACHE_VARIABLE} to one that can."
        ) from None
