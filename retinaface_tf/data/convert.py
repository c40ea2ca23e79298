"""Labels of one format as another's."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from retinaface_tf.data.readers.annotation import AnnotatedImage, LabelledImage
from retinaface_tf.data.readers.registry import WRITERS, LabelWriter
from retinaface_tf.data.readers.yolo import write_yolo_data
from retinaface_tf.errors import ConfigError, DataError
from retinaface_tf.images.read import read_size


class Converted(NamedTuple):
    """What `convert_labels` makes.

    Attributes:
        texts: of the files to write, by their paths.
        faces: how many are in them.
        lost: faces of which the format cannot hold something, by what that is. Those that are
            "ignored" are then left out, since a face to learn is another thing.
    """

    texts: dict[Path, str]
    faces: int
    lost: dict[str, int]


def convert_labels(images: Sequence[AnnotatedImage], folder: Path, to: str, out: Path) -> Converted:
    """Labels in another format, for the same image files.

    Args:
        folder: of the images; names are relative to it.
        to: a name in `WRITERS`.
        out: the label file, or the folder for formats with a file an image.

    Raises:
        ConfigError: there is no such format.
        DataError: a box is not finite, or two images would have one file.
        ImageError: the format says how large images are, and one cannot be read.
    """
    if to not in WRITERS:
        raise ConfigError(
            f"{to!r} is not a format to convert to; choose one of {', '.join(WRITERS)}."
        )
    entries = []
    for image in images:
        inside = image.path.is_relative_to(folder)
        name = (image.path.relative_to(folder) if inside else image.path).as_posix()
        size = read_size(image.path) if WRITERS[to].sized else (0, 0)
        entries.append(LabelledImage(name, size, image))
    converted = label_texts(entries, to, out)
    if to == "yolo":
        converted.texts[out / "data.yaml"] = write_yolo_data(folder, _have_points(entries))
    return converted


def label_texts(entries: Sequence[LabelledImage], to: str, out: Path) -> Converted:
    """Labels as the text of a format's files, for images of known sizes; see `convert_labels`."""
    writer = WRITERS[to]
    lost: Counter[str] = Counter()
    for entry in entries:
        if not np.isfinite(entry.image.boxes).all():
            path = entry.image.path
            raise DataError(f"A box of {path} is not finite; find such with `data check`.")
        lost.update(_lost(entry.image, writer))
    if "ignored" not in writer.holds:
        entries = [
            entry._replace(image=entry.image.keep(~entry.image.ignored)) for entry in entries
        ]
    texts: dict[Path, str] = {}
    points = _have_points(entries)
    if not writer.suffix:
        texts[out] = writer.write(entries)
    for entry in entries if writer.suffix else ():
        file = out / PurePosixPath(entry.name.lstrip("/")).with_suffix(writer.suffix)
        if file in texts:
            raise DataError(f"Two images would have the labels {file}; rename one of them.")
        more = {".json": [file], ".txt": [points]}.get(writer.suffix, [])
        texts[file] = writer.write(entry, *more)
    return Converted(texts, sum(len(entry.image.boxes) for entry in entries), {**lost})


def _have_points(entries: Sequence[LabelledImage]) -> bool:
    return any(np.isfinite(entry.image.landmarks).any() for entry in entries)


def _lost(image: AnnotatedImage, writer: LabelWriter) -> dict[str, int]:
    known = {
        "landmarks": np.isfinite(image.landmarks).any(axis=(1, 2)),
        "scores": np.isfinite(image.scores),
        "ignored": image.ignored,
        "meshes": image.has_mesh,
        **{name: np.isfinite(values) for name, values in image.attributes.items()},
    }
    held = {*writer.holds, *(image.attributes if "*" in writer.holds else ())}
    return {
        name: int(mark.sum()) for name, mark in known.items() if name not in held and mark.any()
    }
