"""Label formats by name."""

from __future__ import annotations

from pathlib import Path


def read_labels(kind: str, labels: Path, images: Path):
    """Images and labels of a file of the named layout."""
    from retinaface_tf.data.readers.coco import read_coco
    from retinaface_tf.data.readers.fddb import read_fddb_boxes, read_fddb_ellipses
    from retinaface_tf.data.readers.json_labels import read_json_labels
    from retinaface_tf.data.readers.retinaface_labels import read_retinaface_labels
    from retinaface_tf.data.readers.widerface import read_widerface
    from retinaface_tf.errors import ConfigError

    readers = {
        "wider": read_widerface,
        "retinaface": read_retinaface_labels,
        "fddb": read_fddb_ellipses,
        "fddb-boxes": read_fddb_boxes,
        "coco": read_coco,
        "json": read_json_labels,
    }
    if kind not in readers:
        raise ConfigError(f"{kind!r} is not a layout of labels; choose {', '.join(readers)}.")
    return readers[kind](labels, images)
