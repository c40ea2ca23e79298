"""The label formats by name: a new format is one function and one entry of `READERS`, or `register_reader`."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from retinaface_tf.data.readers.annotation import AnnotatedImage
from retinaface_tf.data.readers.coco import read_coco, write_coco
from retinaface_tf.data.readers.fddb import (
    read_fddb_boxes,
    read_fddb_ellipses,
    write_fddb_boxes,
    write_fddb_ellipses,
)
from retinaface_tf.data.readers.json_labels import read_json_labels, write_json_labels
from retinaface_tf.data.readers.labelme import read_labelme, write_labelme
from retinaface_tf.data.readers.voc import read_voc, write_voc
from retinaface_tf.data.readers.widerface import (
    WIDER_COLUMNS,
    read_retinaface_labels,
    read_widerface,
    write_retinaface_labels,
    write_widerface,
)
from retinaface_tf.data.readers.yolo import read_yolo, write_yolo
from retinaface_tf.errors import ConfigError
from retinaface_tf.util.registry import register, unregistered

# A reader takes the label file and the folder its image names are relative to.
Reader = Callable[[Path, Path], list[AnnotatedImage]]
READERS: dict[str, Reader] = {
    "wider": read_widerface,
    "retinaface": read_retinaface_labels,
    "fddb": read_fddb_ellipses,
    "fddb-boxes": read_fddb_boxes,
    "coco": read_coco,
    "json": read_json_labels,
    "yolo": read_yolo,
    "labelme": read_labelme,
    "voc": read_voc,
}
# Those whose readers are told which category is faces.
WITH_CATEGORIES = ("coco", "yolo", "labelme", "voc")


class LabelWriter(NamedTuple):
    """How a format is written.

    Attributes:
        write: the text of all images; of one image where there is a `suffix`, given also its file
            where that is ".json", whether any image has landmarks where it is ".txt".
        holds: what of "landmarks", "ignored", "scores" and of the attributes a file of it can say;
            "*" for attributes of any name.
        sized: whether it says how large images are.
        suffix: of the one file an image; "" for one file of all.
    """

    write: Callable[..., str]
    holds: tuple[str, ...]
    sized: bool = False
    suffix: str = ""


WRITERS = {
    "wider": LabelWriter(write_widerface, WIDER_COLUMNS),
    "retinaface": LabelWriter(write_retinaface_labels, ("landmarks", "blur")),
    "fddb": LabelWriter(write_fddb_ellipses, ()),
    "fddb-boxes": LabelWriter(write_fddb_boxes, ()),
    "coco": LabelWriter(write_coco, ("landmarks", "ignored", "scores", "*"), sized=True),
    "json": LabelWriter(write_json_labels, ("landmarks", "ignored", "scores", "*"), sized=True),
    "yolo": LabelWriter(write_yolo, ("landmarks",), sized=True, suffix=".txt"),
    "labelme": LabelWriter(write_labelme, ("landmarks", "ignored", "scores", "*"), True, ".json"),
    "voc": LabelWriter(write_voc, ("ignored",), sized=True, suffix=".xml"),
}


def register_reader(name: str, reader: Reader) -> None:
    """Adds a format of your own: `data.kind`, and the commands of `data`, know it by this name.

    Args:
        name: as "mine:csv", with the module that calls this before the colon, so that a run whose
            module was not imported can say which.
        reader: takes the label file and the folder its image names are relative to.

    Raises:
        ConfigError: another reader has this name, or it names no module.
    """
    register(READERS, "reader", name, reader)


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
        raise unregistered("format of labels", format, READERS)
    if category is None:
        return READERS[format]
    require_categories(format, category)
    return functools.partial(READERS[format], category=category)


def require_categories(format: str, category: str | int | None) -> None:
    """Refuses a category where labels have none.

    Raises:
        ConfigError: they have none.
    """
    if category is not None and format not in WITH_CATEGORIES:
        raise ConfigError(
            f"A category ({category}) goes with {', '.join(WITH_CATEGORIES)}; {format} labels have "
            "none."
        )


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
