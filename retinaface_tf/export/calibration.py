"""Photos on which an int8 export measures the range of every activation."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from retinaface_tf.errors import ConfigError, ImageError
from retinaface_tf.util.files import is_folder

MAX_PHOTOS = 100
MIN_PHOTOS = 8


class CalibrationPhotos:
    """Photos of a folder, each fitted into the network's input and padded like any other.

    At most `limit`, spread evenly over the folder's names, so that folders sorted by subject are
    represented; unreadable files are left out. Can be gone through more than once.

    Args:
        folder: searched with its subfolders.
        size: (height, width) of the network's input.
        fill: RGB of the padding.

    Raises:
        ConfigError: the folder is missing or holds fewer than `MIN_PHOTOS` images.
    """

    def __init__(
        self,
        folder: str | Path,
        size: tuple[int, int],
        fill: tuple[float, float, float],
        limit: int = MAX_PHOTOS,
    ):
        from retinaface_tf.images.listing import list_images

        folder = Path(folder)
        if not is_folder(folder):
            raise ConfigError(f"There is no folder of photos {folder}; check --calibration.")
        try:
            paths = [path for path, _ in list_images([str(folder)])]
        except ImageError as error:
            raise ConfigError(f"{folder} cannot be used for calibration: {error}") from None
        if len(paths) < MIN_PHOTOS:
            raise ConfigError(
                f"{folder} holds {len(paths)} images and calibration needs {MIN_PHOTOS} at least, "
                "better 100: photos like those the network will see."
            )
        step = max(1.0, len(paths) / limit)
        self.paths = [paths[int(i * step)] for i in range(min(limit, len(paths)))]
        self.size = size
        self.fill = fill

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[np.ndarray]:
        from retinaface_tf.images.read import read_image
        from retinaface_tf.inference.preprocess import prepare, stack_padded

        for path in self.paths:
            try:
                pixels = prepare(read_image(path), fixed_shape=self.size).pixels
            except ImageError:
                continue
            yield stack_padded([pixels], self.size, self.fill)[0]
