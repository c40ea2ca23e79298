"""The label formats by name: a new format is one function and one entry of `READERS`."""

import functools
from collections.abc import Callable
from pathlib import Path

from retinaface_tf.data.readers.annotation import AnnotatedImage
from retinaface_tf.data.readers.coco import read_coco
from retinaface_tf.data.readers.fddb import read_fddb_boxes, read_fddb_ellipses
from retinaface_tf.data.readers.json_labels import read_json_labels
from retinaface_tf.data.readers.widerface import read_retinaface_labels, read_widerface
from retinaface_tf.errors import ConfigError

# A reader takes the label file and the folder its image names are relative to.
READERS: dict[str, Callable[[Path, Path], list[AnnotatedImage]]] = {
    "wider": read_widerface,
    "retinaface": read_retinaface_labels,
    "fddb": read_fddb_ellipses,
    "fddb-boxes": read_fddb_boxes,
    "coco": read_coco,
    "json": read_json_labels,
}


def label_reader(
    format: str, category: str | int | None = None
) -> Callable[[Path, Path], list[AnnotatedImage]]:
    """The reader of a format.

    Args:
        format: a name in `READERS`.
        category: of COCO's, see `read_coco`; other formats have none.

    Raises:
        ConfigError: there is no such format, or it has no categories.
    """
    if format not in READERS:
        raise ConfigError(
            f"{format!r} is not a format of labels; choose one of {', '.join(READERS)}."
        )
    if category is None:
        return READERS[format]
    if format != "coco":
        raise ConfigError(f"A category ({category}) goes with coco; {format} labels have none.")
    return functools.partial(read_coco, category=category)


def read_labels(
    format: str, labels: Path, images: Path, category: str | int | None = None
) -> list[AnnotatedImage]:
    """Images and labels of a file.

    Args:
        format: a name in `READERS`.
        images: folder the names in it are relative to.
        category: see `label_reader`.

    Raises:
        ConfigError: there is no such format, or it has no categories.
        DataError: the file cannot be read, or is not of that format.
    """
    return label_reader(format, category)(labels, images)
