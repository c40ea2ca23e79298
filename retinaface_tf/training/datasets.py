"""Opens the data sets a configuration names: what is trained on, and what is evaluated."""

import dataclasses
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from retinaface_tf.data.check import check_images
from retinaface_tf.data.paste import FaceCrops
from retinaface_tf.data.readers.annotation import AnnotatedImage, ignore_faces
from retinaface_tf.data.readers.fddb import read_fddb_boxes, read_fddb_ellipses, read_fold_names
from retinaface_tf.data.readers.mesh_labels import MeshLabelConfig, join_meshes, read_mesh_labels
from retinaface_tf.data.readers.registry import READERS, label_reader
from retinaface_tf.data.records import RecordSource, read_record_images
from retinaface_tf.data.sources import ImageSource, LabelledSource
from retinaface_tf.data.synthetic.scene import draw_images
from retinaface_tf.errors import ConfigError
from retinaface_tf.labelling.near_duplicates import group_duplicates, hash_photos
from retinaface_tf.training.config import DataConfig, TrainingConfig
from retinaface_tf.training.dense_features import HELD_OUT, held_out_photos
from retinaface_tf.util.files import is_file, is_folder
from retinaface_tf.util.process import available_cores
from retinaface_tf.util.progress import Track, no_progress

# Where the usual archives put things, relative to data.root.
_WIDER_LABELS = (
    "wider_face_split/wider_face_{part}_bbx_gt.txt",
    "WIDER_{part}/wider_face_{part}_bbx_gt.txt",
    "{part}/wider_face_{part}_bbx_gt.txt",
    "wider_face_{part}_bbx_gt.txt",
)
_RETINAFACE_LABELS = ("{part}/label.txt", "WIDER_{part}/label.txt", "label.txt")
_WIDER_IMAGES = ("WIDER_{part}/images", "{part}/images", "images")
# COCO's own layout, Roboflow's, and what people make; {part} is also "valid" for "val".
_COCO_LABELS = (
    *("annotations/instances_{part}*.json", "annotations/*{part}*.json"),
    *("{part}/_annotations.coco.json", "{part}/*.json", "*{part}*.json"),
)
_COCO_ONLY = ("_annotations.coco.json", "annotations/*.json", "*.json")
_JSON_LABELS = ("*{part}*.jsonl", "{part}/*.jsonl")
_JSON_ONLY = ("labels.jsonl", "*.jsonl", "*/labels.jsonl")
_LABELS = {"coco": (_COCO_LABELS, _COCO_ONLY), "json": (_JSON_LABELS, _JSON_ONLY)}
_IMAGES = ("images/{part}*", "{part}*/images", "{part}*", "images")


@dataclass(frozen=True, eq=False)
class ValidationSet:
    """Images that are evaluated.

    Attributes:
        images: labels and files.
        encoded: the files' bytes where they are in memory.
    """

    images: list[AnnotatedImage]
    encoded: list[bytes] | None = None

    def pixels(self) -> list[Path] | list[bytes]:
        """What `RetinaFace.detect` reads."""
        return self.encoded if self.encoded is not None else [i.path for i in self.images]


@dataclass(frozen=True)
class DataSets:
    """What `open_data_sets` returns: both sets, lines that describe them, and faces to paste."""

    train: ImageSource
    validation: ValidationSet
    notes: tuple[str, ...]
    crops: FaceCrops | None = None


def open_data_sets(config: TrainingConfig, track: Track = no_progress) -> DataSets:
    """The training and validation sets of a run; bad labels and images are left out.

    Raises:
        ConfigError: something needed is not set or not found.
        DataError: labels cannot be read, or nothing usable is left.
    """
    sets = _open(config, track)
    if not config.augment.paste:
        return sets
    labels, images = config.data.paste, config.data.paste_images
    if labels is None or images is None:
        raise ConfigError("augment.paste needs data.paste and data.paste_images: faces to paste.")
    crops = label_reader("json")(Path(labels), Path(images))
    with track("checking faces to paste", len(crops)) as advance:
        result = check_images(crops, decode=config.data.check == "full", progress=advance)
    notes = (*sets.notes, f"faces to paste: {result.summary()}")
    return dataclasses.replace(sets, notes=notes, crops=FaceCrops(result.images))


def _open(config: TrainingConfig, track: Track) -> DataSets:
    data = config.data
    if data.kind == "synthetic":
        return _synthetic(config, track)
    if data.kind == "records":
        return _records(data)
    train, validation = _READ.get(data.kind, _labelled)(data)
    train = ignore_faces(train, data.ignore)
    notes = []
    if data.meshes:
        labels = read_mesh_labels(Path(data.meshes), MeshLabelConfig())
        train = join_meshes(train, labels)
        count = sum(int(image.has_mesh.sum()) for image in train)
        notes.append(f"training: {count} faces have meshes")
    if config.loss.score_targets:
        notes.append(_describe_scores(train))
    if not validation and data.validation_share and data.max_validation:
        train, validation = _hold_out(train, data.validation_share, config.seed, track)
    checked = []
    parts = {"training": train, "validation": _thin(validation, data.max_validation)}
    for name, images in parts.items():
        with track(f"checking {name} images", len(images)) as advance:
            result = check_images(images, decode=data.check == "full", progress=advance)
        notes.append(f"{name}: {result.summary()}")
        checked.append(result.images)
    images = checked[0] * max(1, -(-data.epoch_images // max(1, len(checked[0]))))
    return DataSets(LabelledSource(images), ValidationSet(checked[1]), tuple(notes))


def _hold_out(images: list[AnnotatedImage], share: float, seed: int, track: Track):
    """Training and validation images of one set; near-duplicates are on one side.

    The order in which groups are taken follows from their names, so that few photos change sides when
    others are added.
    """
    paths = [image.path for image in images]
    with track("looking for near-duplicates", len(paths)) as advance:
        groups = group_duplicates(hash_photos(paths, advance))
    root = os.path.commonpath([path.parent for path in paths])
    first = {group: paths[i] for i, group in reversed(list(enumerate(groups)))}
    names = {group: f"{seed} {path.relative_to(root).as_posix()}" for group, path in first.items()}
    room, held_out = max(1, round(share * len(images))), set()
    for group in sorted(names, key=lambda group: sha256(os.fsencode(names[group])).digest()):
        if (groups == group).sum() <= room:
            held_out.add(group)
            room -= (groups == group).sum()
    return _split(images, [group in held_out for group in groups])


def _describe_scores(images: list[AnnotatedImage]) -> str:
    known = [np.isfinite(image.scores) for image in images]
    uncertain = sum(int((image.ignored & k).sum()) for image, k in zip(images, known))
    total = sum(int(k.sum()) for k in known)
    return f"training: {total} faces have scores, {uncertain} of them are uncertain ones"


def _synthetic(config: TrainingConfig, track: Track) -> DataSets:
    drawn = config.synthetic
    total = drawn.train + drawn.validation
    with track("drawing faces", total) as advance:
        pairs = list(draw_images(drawn, 0, total, processes=available_cores(), progress=advance))
    encoded, images = [p[0] for p in pairs], [p[1] for p in pairs]
    faces = sum(len(image.boxes) for image in images)
    return DataSets(
        LabelledSource(images[: drawn.train], encoded[: drawn.train]),
        ValidationSet(images[drawn.train :], encoded[drawn.train :]),
        (f"drew {drawn.train} training and {drawn.validation} held-out images, {faces} faces",),
    )


def _records(data: DataConfig) -> DataSets:
    if not data.root:
        raise ConfigError("data.kind='records' needs data.root, a folder `data pack` wrote.")
    source = RecordSource(Path(data.root))
    validation = ValidationSet([])
    if data.validation_labels:
        images, encoded = read_record_images(Path(data.validation_labels), data.max_validation)
        validation = ValidationSet(images, encoded)
    note = f"training: {source.count} packed images"
    return DataSets(source, validation, (note,))


def _mesh_labels(data: DataConfig) -> tuple[list[AnnotatedImage], list[AnnotatedImage]]:
    """The photos of `data label-mesh`; those that `train-mesh` holds out are evaluated."""
    if not data.root:
        raise ConfigError("data.kind='mesh-labels' needs data.root, a folder of `data label-mesh`.")
    labels = read_mesh_labels(Path(data.root))
    images = labels.annotated(labels.good(MeshLabelConfig()))
    held_out = held_out_photos([str(image.path) for image in images], HELD_OUT)
    return _split(images, held_out)


def _split(images, validation) -> tuple[list[AnnotatedImage], list[AnnotatedImage]]:
    """Training images, and those of which a list of bools says that they are for validation."""
    parts: tuple[list, list] = ([], [])
    for image, held_out in zip(images, validation):
        parts[bool(held_out)].append(image)
    return parts


def _thin(images: list[AnnotatedImage], limit: int) -> list[AnnotatedImage]:
    """At most `limit` images, evenly spread."""
    if len(images) <= limit:
        return images
    return [images[i * len(images) // limit] for i in range(limit)]


def _free_form(data: DataConfig) -> tuple[list[AnnotatedImage], list[AnnotatedImage]]:
    """COCO's JSON and JSON lines: no one layout of folders, so files are looked for by their names."""
    validation = [] if data.max_validation == 0 else _read_part(data, "val", "validation_")
    return _read_part(data, "train"), validation


def _read_part(data: DataConfig, part: str, prefix: str = "") -> list[AnnotatedImage]:
    labels = _label_file(data, f"{prefix}labels", part)
    if labels is None:
        return []
    reader = label_reader(data.kind, data.category)
    if getattr(data, f"{prefix}images"):
        return reader(labels, _locate(data, f"{prefix}images", (), part))
    # Without a folder: names as they are in the file, relative to the one in which the first lie.
    images = reader(labels, Path())
    root = Path(data.root) if data.root else labels.parent
    usual = [folder for pattern in _IMAGES for folder in _matches(root, [pattern], part)]
    folders = [labels.parent, *usual, root]
    names = [image.path for image in images[:20]]
    home = next((f for f in folders if any(is_file(f / name) for name in names)), root)
    return [dataclasses.replace(image, path=home / image.path) for image in images]


def _label_file(data: DataConfig, name: str, part: str) -> Path | None:
    """The file an option gives, or that of the usual names; None for no validation set."""
    if getattr(data, name) or not data.root:
        return _locate(data, name, (), part, optional=part == "val")
    root = Path(data.root)
    if not is_folder(root):
        raise ConfigError(f"data.root={data.root} is not a folder.")
    of_parts, only = _LABELS[data.kind]
    found = _matches(root, of_parts, part)
    if not found and part == "train":
        found = _matches(root, only, part)
        found = [path for path in found if not re.search("val|test", path.name)] or found
    if len(found) > 1:
        listed = ", ".join(str(path.relative_to(root)) for path in found[:5])
        raise ConfigError(f"{root} holds several label files ({listed}); set data.{name}.")
    if not found and part == "train":
        raise ConfigError(f"data.{name} was not found in {root}; set it to the label file.")
    return found[0] if found else None


def _matches(root: Path, patterns: Sequence[str], part: str) -> list[Path]:
    """What the first of the patterns finds that finds anything; "valid" is another word for "val"."""
    words = ("val", "valid") if part == "val" else (part,)
    for pattern in patterns:
        found = {path for word in words for path in root.glob(pattern.format(part=word))}
        if found:
            return sorted(found)
    return []


def _labelled(data: DataConfig) -> tuple[list[AnnotatedImage], list[AnnotatedImage]]:
    reader = label_reader(data.kind, data.category)
    patterns = {"wider": _WIDER_LABELS, "retinaface": _RETINAFACE_LABELS}.get(data.kind, ())
    train = reader(
        _locate(data, "labels", patterns, "train"), _locate(data, "images", _WIDER_IMAGES, "train")
    )
    labels = _locate(data, "validation_labels", _WIDER_LABELS, "val", optional=True)
    if labels is None or data.max_validation == 0:
        return train, []
    # RetinaFace's own list for the validation images has no landmarks and the same boxes.
    reader = READERS["wider"] if labels.name.endswith("bbx_gt.txt") else reader
    return train, reader(labels, _locate(data, "validation_images", _WIDER_IMAGES, "val"))


def _locate(data: DataConfig, name: str, patterns, part: str, optional: bool = False):
    """The path an option gives, or the first of the usual places that exists."""
    given = getattr(data, name)
    if given:
        path = Path(given)
        if not path.exists():
            raise ConfigError(f"data.{name}={given} does not exist.")
        return path
    if data.root and not is_folder(data.root):
        raise ConfigError(f"data.root={data.root} is not a folder.")
    tried = [Path(data.root) / pattern.format(part=part) for pattern in patterns if data.root]
    for path in tried:
        if path.exists():
            return path
    if optional:
        return None
    tried_here = ", ".join(str(path) for path in tried) or "nowhere, as data.root is not set"
    raise ConfigError(f"data.{name} was not found (searched: {tried_here}); set it.")


def _fddb(data: DataConfig) -> tuple[list[AnnotatedImage], list[AnnotatedImage]]:
    if not data.root:
        raise ConfigError("data.kind='fddb' needs data.root, the folder with FDDB-folds.")
    root = Path(data.root)
    photos = Path(data.images) if data.images else root / "originalPics"
    folds = read_fold_names(root / "FDDB-folds")
    if not folds:
        raise ConfigError(f"There is no FDDB-fold-01.txt in {root / 'FDDB-folds'}.")
    if data.labels:
        images = read_fddb_boxes(data.labels, photos)
    else:
        images = read_fddb_ellipses(root / "FDDB-folds", photos)
    names = [image.path.relative_to(photos).with_suffix("").as_posix() for image in images]
    return _split(images, [folds.get(name, 0) in data.validation_folds for name in names])


_READ = {"fddb": _fddb, "mesh-labels": _mesh_labels, "coco": _free_form, "json": _free_form}
