"""What a folder of labelled photos holds, found by looking: label files, their formats, where the photos lie."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retinaface_tf.data.readers.registry import READERS
from retinaface_tf.errors import ConfigError, DataError
from retinaface_tf.images.listing import IMAGE_SUFFIXES
from retinaface_tf.util.files import is_file, is_folder
from retinaface_tf.util.text_lines import parse_numbers, read_text

# Folders are looked into this far below the one that is named.
_DEPTH = 3
_FOLDERS = ("labelme", "voc", "yolo")


def find_data(place: str, named: Mapping[str, Any] = {}) -> dict[str, str]:
    """The options of `data` for a label file, or a folder that holds some, by dotted names.

    With several label files, one with "val" in its path is for validation, those with "test" are left
    out. Of several formats of the same labels the first in this order is taken: RetinaFace's, JSON
    lines, COCO's, WIDER's, FDDB's, LabelMe's, VOC's, YOLO's.

    Args:
        named: options of `data`; photos are not looked for where "images" or "validation_images" is one.

    Raises:
        ConfigError: there are no labels of a known format, several files could be meant, or the
            photos are not found.
        DataError: the labels cannot be read.
    """
    root = Path(place)
    if is_folder(root / "FDDB-folds"):
        return {"data.kind": "fddb", "data.root": place}
    folders = _folders(root.parent if is_file(root) else root)
    files = [root] if is_file(root) else [f for folder in folders for f in sorted(folder.iterdir())]
    formats = {file: kind for file in files if (kind := _format_of(file))}
    # Of formats with a file an image the folder is what is named.
    formats = {f.parent if kind in _FOLDERS else f: kind for f, kind in formats.items()}
    if not formats:
        raise ConfigError(
            f"{place} holds no labels of a known format (a WIDER FACE list, RetinaFace's label.txt, "
            "COCO's JSON, JSON lines, LabelMe's JSON, VOC's XML, YOLO's .txt, FDDB's folds); see `retinaface-tf data check --help`."
        )
    parts: dict[str, list[Path]] = {"": [], "validation_": []}
    for file in formats:
        words = file.relative_to(root).as_posix() if file.is_relative_to(root) else ""
        if len(formats) == 1:
            parts[""].append(file)
        elif not re.search(r"(^|[^a-z])test", words.lower()):
            parts["validation_" if re.search(r"(^|[^a-z])val", words.lower()) else ""].append(file)
    if not parts[""]:
        listed = ", ".join(str(file) for file in formats)
        raise ConfigError(f"{place} has no labels to train on beside {listed}; name one as --data.")
    order = ("retinaface", "json", "coco", "wider", "fddb-boxes", "labelme", "voc", "yolo")
    kind = min((formats[file] for file in parts[""]), key=order.index)
    options = {"data.kind": kind}
    for part, found in parts.items():
        found = [file for file in found if formats[file] == kind]
        if len(found) > 1:
            listed = ", ".join(str(file) for file in found[:5])
            raise ConfigError(f"{place} holds several label files ({listed}); name one as --data.")
        for file in found:
            options[f"data.{part}labels"] = str(file)
            images = named.get(f"{part}images") or _home(file, kind, folders)
            options[f"data.{part}images"] = str(images)
    return options


def _folders(root: Path) -> list[Path]:
    """A folder and those in it, without hidden ones and those of training runs."""
    if not is_folder(root):
        raise ConfigError(f"--data {root} is neither a kind of data nor a file or folder.")
    found = []
    for name, inner, files in os.walk(root):
        folder = Path(name)
        run = "metrics.csv" in files
        deep = len(folder.relative_to(root).parts) >= _DEPTH
        inner[:] = [] if run or deep else sorted(n for n in inner if not n.startswith("."))
        found += [] if run else [folder]
    return sorted(found, key=lambda folder: len(folder.parts))


def _format_of(file: Path) -> str | None:
    if file.suffix == ".jsonl":
        return "json"
    if file.suffix not in (".json", ".txt", ".xml"):
        return None
    try:
        text = read_text(file)
        if file.suffix == ".xml":
            return "voc" if "<annotation" in text and "<filename>" in text else None
        if file.suffix == ".json":
            values = json.loads(text)
            keys = set(values) if isinstance(values, dict) else set()
            if keys >= {"images", "annotations"}:
                return "coco"
            return "labelme" if keys >= {"shapes", "imagePath"} else None
    except (DataError, ValueError, RecursionError):
        return None
    first, second, third = [*text.split("\n", 3), "", "", ""][:3]
    row = parse_numbers(first) or ()
    if len(row) in (5, 15, 20) and row[0].is_integer() and all(0 <= v <= 1 for v in row[1:5]):
        return "yolo"
    if first.startswith("#"):
        return "retinaface" if Path(first.strip()).suffix.lower() in IMAGE_SUFFIXES else None
    numbers = len(parse_numbers(third) or ()) if second.strip().isdigit() else 0
    return "wider" if numbers >= 10 else "fddb-boxes" if numbers >= 4 else None


def _home(labels: Path, kind: str, folders: list[Path]) -> Path:
    """The folder that the names in a label file are relative to: its own, one of `folders`, or above."""
    if kind in _FOLDERS:
        return _home_of_folder(labels, folders)
    names = [image.path for image in READERS[kind](labels, Path())[:20]]
    beside = [folder for folder in folders if labels.parent in (folder, *folder.parents)]
    for folder in [labels.parent, *beside, *folders, labels.parent.parent]:
        if any(is_file(folder / name) for name in names):
            return folder
    raise ConfigError(
        f"The photos of {labels} ({', '.join(map(str, names[:2])) or 'none'} ...) are not beside or "
        "below it; set data.images to their folder."
    )


def _home_of_folder(labels: Path, folders: list[Path]) -> Path:
    """Where photos have the names of the files in a folder: itself, its twin "images", or one of `folders`."""
    stems = {path.stem for path in labels.iterdir() if path.suffix in (".json", ".txt", ".xml")}
    twin = Path(*("images" if part == "labels" else part for part in labels.parts))
    for folder in (labels, twin, *folders):
        photos = folder.iterdir() if is_folder(folder) else ()
        if any(p.suffix.lower() in IMAGE_SUFFIXES and p.stem in stems for p in photos):
            return folder
    raise ConfigError(
        f"No photo has a name of the files in {labels}; set data.images to the photos' folder."
    )
