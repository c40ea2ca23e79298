"""The files of `detect --coco`, `--yolo`, `--labelme`, `--voc`, `--csv` and `--parquet`, written when all is found."""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retinaface_tf.errors import ConfigError, ImageError, RetinaFaceError
from retinaface_tf.faces.faces import Faces
from retinaface_tf.faces.rows import COLUMNS, face_row
from retinaface_tf.util.extras import require
from retinaface_tf.util.files import is_special, require_free, write_whole

if TYPE_CHECKING:
    from retinaface_tf.cli.detect import OutputOptions
    from retinaface_tf.cli.detect_run import Inputs, Source

_LABELS = ("coco", "yolo", "labelme", "voc")
_STANDARD_OUTPUT = Path("-")
# Of each row, beside what is said of the face.
_PLACE = ("image", "width", "height", "frame", "time")


class LabelFiles:
    """Keeps the entries of the JSON lines, and makes files of them.

    Args:
        output: says which.
        inputs: what is searched.
        others: further files of the run, which none of these may be.

    Raises:
        ConfigError: a file is in the way, two outputs are one file, two images would have one, or a video cannot be in one.
        MissingPackage: Parquet is asked for and pyarrow missing.
    """

    def __init__(self, output: OutputOptions, inputs: Inputs, others: Iterable[str | Path] = ()):
        self._wanted = {
            kind: Path(path)
            for kind in (*_LABELS, "csv", "parquet")
            if (path := getattr(output, kind)) is not None
        }
        self._overwrite, self._images = output.overwrite, inputs.images
        self._sources = {source.shown: source for source in inputs.images}
        self._entries: list[dict[str, Any]] = []
        if "parquet" in self._wanted:
            require("bulk", for_="--parquet")
        if inputs.videos and (kinds := [kind for kind in self._wanted if kind != "csv"]):
            raise ConfigError(f"--{kinds[0]} is of images; the faces of a video go into --csv.")
        empty = [_entry(source) for source in inputs.images]
        own = [path for kind in self._wanted for path in self._texts(kind, empty)]
        _require_apart([*map(Path, others), *own])
        for path in own:
            if path == _STANDARD_OUTPUT:
                continue
            if path.parent == _STANDARD_OUTPUT:
                raise ConfigError("A file for each image needs a folder, not standard output.")
            require_free(path, inputs.files, overwrite=output.overwrite)

    def add(self, entry: dict[str, Any]) -> None:
        """Keeps a JSON line's entry."""
        if self._wanted:
            self._entries.append(entry)

    def write(self) -> None:
        """Writes the files.

        Raises:
            RetinaFaceError: one cannot be written.
        """
        texts = [self._texts(kind, self._entries) for kind in self._wanted]
        for path, content in (pair for each in texts for pair in each.items()):
            if path != _STANDARD_OUTPUT:
                write_whole(path, content, error=RetinaFaceError)
            elif isinstance(content, bytes):
                sys.stdout.buffer.write(content)
            else:
                sys.stdout.write(content)

    def _texts(self, kind: str, entries: list[dict[str, Any]]) -> Mapping[Path, str | bytes]:
        path = self._wanted[kind]
        if kind == "csv":
            return {path: _csv(entries)}
        if kind == "parquet":
            return {path: _parquet(entries)}
        return self._labels(kind, path, entries)

    def _labels(self, kind: str, out: Path, entries: list[dict[str, Any]]) -> dict[Path, str]:
        from retinaface_tf.data.convert import label_texts
        from retinaface_tf.data.readers.annotation import AnnotatedImage, LabelledImage
        from retinaface_tf.data.readers.registry import WRITERS

        # Names are relative to the folder of the images where that is one, as the readers want them.
        roots = {source.root for source in self._images}
        below = (len(roots) == 1 and None not in roots) or WRITERS[kind].suffix
        labelled = []
        for entry in {
            entry["image"]: entry for entry in entries
        }.values():  # what is named twice once
            source = self._sources.get(entry["image"])
            if source is None or "error" in entry:
                continue
            faces = Faces.from_dict(entry)
            name = source.name if below else source.path
            image = AnnotatedImage(source.path, faces.boxes, faces.landmarks, scores=faces.scores)
            labelled.append(LabelledImage(name.as_posix(), faces.image_size, image))
        return label_texts(labelled, kind, out).texts


def _require_apart(paths: list[Path]) -> None:
    places: set[str] = set()
    for path in paths:
        if path == _STANDARD_OUTPUT or is_special(path):
            continue
        if (place := os.path.realpath(path)) in places:
            raise ConfigError(f"{path} is named twice; give each output its own name.")
        places.add(place)


def _entry(source: Source) -> dict[str, Any]:
    return {"image": source.shown, **Faces.empty((1, 1)).to_dict()}


def _csv(entries: list[dict[str, Any]]) -> str:
    """A row a face; images without faces, and those that could not be read, have none."""
    rows = [
        {name: entry.get(name) for name in _PLACE} | face_row(face)
        for entry in entries
        for face in entry.get("faces", ())
    ]
    columns = {**dict.fromkeys((*_PLACE, *COLUMNS)), **{name: 0 for row in rows for name in row}}
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _parquet(entries: list[dict[str, Any]]) -> bytes:
    """A row an image, with the columns of a bulk run, without meshes."""
    from retinaface_tf.bulk.bulk_image import BulkImage
    from retinaface_tf.bulk.results import ShardReport, encode_results

    answers = [
        ImageError(entry["error"]) if "error" in entry else Faces.from_dict(entry)
        for entry in entries
    ]
    rows = [(BulkImage(None, e["image"], None), answer) for e, answer in zip(entries, answers)]
    counts = [len(answer) for answer in answers if isinstance(answer, Faces)]
    report = ShardReport(0, len(rows), sum(counts), len(rows) - len(counts), "detect")
    return encode_results(rows, 0, report)
