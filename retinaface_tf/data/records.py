"""TFRecord shards of images and labels: few large files instead of many small ones.

A folder holds `shard-NNNNN-of-NNNNN.tfrecord`, beside each a `.json` with its images' names and
its sha256, and a `manifest.json` once all are there. Each record is a tf.train.Example: "encoded"
(the image's own bytes, unchanged), "name", "boxes" (4 numbers a face: x1 y1 x2 y2), "landmarks"
(10 numbers a face, NaN where unlabelled), "ignored" (0 or 1 a face); where faces have scores,
"scores" (1 number a face, NaN where unknown); and where they have meshes, "vertices" (3 numbers a
vertex, x y z) with their number a face, "num_vertices".
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retinaface_tf.data.readers.annotation import AnnotatedImage, common_vertices
from retinaface_tf.data.sources import EpochSlice, shuffled_order
from retinaface_tf.errors import ConfigError, DataError
from retinaface_tf.util.bounds import read_whole
from retinaface_tf.util.extras import require
from retinaface_tf.util.files import require_folder, sha256_of, whole_file, write_whole
from retinaface_tf.util.text_lines import MALFORMED, read_text

MANIFEST = "manifest.json"
_FORMAT = 1
_REMEDY = "choose another folder, or --overwrite"
# Images kept in memory to be shuffled, besides the shuffled order of the shards.
_SHUFFLE_BUFFER = 2048


@dataclass(frozen=True)
class PackResult:
    """What `pack_images` did.

    Attributes:
        written, reused: how many were written now, and how many were there and good.
    """

    shards: int
    written: int
    reused: int
    images: int
    faces: int


def pack_images(
    images: Sequence[AnnotatedImage],
    folder: Path | str,
    *,
    per_shard: int = 500,
    threads: int = 4,
    overwrite: bool = False,
    progress: Callable[[int], object] | None = None,
) -> PackResult:
    """Writes images and labels into shards; a run that was stopped is resumed.

    A shard that is there already is kept when its note says it holds the same images and labels
    and its bytes still have the sha256 of the note. Every new shard is read back before it counts.

    Args:
        images: usable images, see `data.check`.
        folder: to write into; made when needed.
        overwrite: replace files in the way that are of other images or labels, or not of this
            package.

    Raises:
        ConfigError: such files are in the way.
        DataError: there is no image, one cannot be read, meshes are of different topologies, or
            the folder cannot be written.
    """
    if not images:
        raise DataError("There is no usable image to pack.")
    folder = Path(folder)
    common_vertices(images)
    parts = [images[start : start + per_shard] for start in range(0, len(images), per_shard)]
    count, digests = len(parts), [_digest_labels(part) for part in parts]
    paths = [folder / f"shard-{number:05d}-of-{count:05d}.tfrecord" for number in range(count)]
    shards = require_pack_folder(folder, overwrite)
    if not overwrite:
        _refuse_others(folder, shards, paths, digests)
    (folder / MANIFEST).unlink(missing_ok=True)

    def write(number: int) -> tuple[dict, bool]:
        part, path, digest = parts[number], paths[number], digests[number]
        note, kept = _good_note(path, digest), True
        if note is None:
            note, kept = _write_shard(path, part, digest), False
        if progress:
            progress(len(part))
        return {"file": path.name, **note}, kept

    with ThreadPoolExecutor(threads) as pool:
        shards, kept = zip(*pool.map(write, range(count)))
    manifest = json.dumps({"format": _FORMAT, "shards": shards})
    write_whole(folder / MANIFEST, manifest, error=DataError)
    faces = sum(len(image.boxes) for image in images)
    return PackResult(count, count - sum(kept), sum(kept), len(images), faces)


def require_pack_folder(folder: Path, overwrite: bool = False) -> list[dict]:
    """Makes the folder of shards before the work begins; returns the shards that its manifest names.

    Raises:
        MissingPackage: TensorFlow, which writes them, is not installed.
        ConfigError: the folder cannot be written, or has another program's manifest.
    """
    require("train", "tensorflow", for_="Writing TFRecord shards")
    require_folder(folder)
    if overwrite or not (folder / MANIFEST).exists():
        return []
    try:
        return _read_manifest(folder)
    except DataError:
        raise ConfigError(f"{folder / MANIFEST} is not of `data pack`; {_REMEDY}.") from None


def _refuse_others(
    folder: Path, shards: list[dict], paths: Sequence[Path], digests: Sequence[str]
) -> None:
    """Raises ConfigError unless what is there was packed from the same images and labels."""
    if shards and [shard.get("labels") for shard in shards] != [*digests]:
        raise ConfigError(f"{folder} holds shards of other images or labels; {_REMEDY}.")
    for path, digest in zip(paths, digests):
        note = path.with_suffix(".json")
        if (path.exists() or note.exists()) and _read_note(path).get("labels") != digest:
            raise ConfigError(f"{path} or {note.name} is of other images or labels; {_REMEDY}.")


def verify_shards(folder: Path | str) -> list[str]:
    """Reads every shard of a folder; one line for each that is missing or damaged.

    Raises:
        DataError: the folder has no readable manifest.
    """
    problems = []
    for shard in _read_manifest(Path(folder)):
        path = Path(folder) / shard["file"]
        if not path.is_file():
            problems.append(f"{path}: missing")
        elif sha256_of(path) != shard["sha256"]:
            problems.append(f"{path}: its bytes changed since it was written")
    return problems


class RecordSource:
    """Shards as a source of training images.

    An epoch shuffles the shards and, within a buffer of 2,048 images, their contents.

    Args:
        folder: what `pack_images` wrote.

    Raises:
        DataError: it has no manifest, or a shard is missing.
    """

    def __init__(self, folder: Path):
        shards = _read_manifest(folder)
        self._listing = json.dumps(shards, sort_keys=True)  # With the sha256 of each shard.
        self._files = [os.fsencode(folder / shard["file"]) for shard in shards]
        self._names = [name for shard in shards for name in shard["names"]]
        self._first = np.cumsum([0] + [len(shard["names"]) for shard in shards])[:-1]
        self.count = len(self._names)
        self.vertices = _vertices_of(shards)
        for shard in shards:
            _require_lengths(folder / shard["file"])

    def name(self, image_id: int) -> str:
        return self._names[image_id]

    def digest(self) -> str:
        return hashlib.sha256(self._listing.encode()).hexdigest()[:12]

    def examples(self, part: EpochSlice):
        import tensorflow as tf

        order = shuffled_order(len(self._files), part.seed, part.epoch)
        files = [self._files[i] for i in order]
        shards = tf.data.Dataset.from_tensor_slices((files, self._first[order]))

        def read(file, first):
            return tf.data.TFRecordDataset(file).enumerate(first)

        records = shards.interleave(read, cycle_length=4, block_length=8)
        records = records.shuffle(
            _SHUFFLE_BUFFER, seed=part.seed * 100_003 + part.epoch, reshuffle_each_iteration=False
        )
        if self.count < part.steps * part.batch:
            records = records.repeat()
        numbered = records.enumerate().take(part.steps * part.batch)
        numbered = numbered.skip(part.first_step * part.batch)

        def mine(position, record):
            place = position % part.batch
            return (place >= part.begin) & (place < part.end)

        def parse(position, record):
            image_id, serialized = record
            example = _parse(serialized, self.vertices)
            del example["name"]
            return {**example, "image_id": image_id, "position": position}

        return numbered.filter(mine).map(
            parse, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )


def read_record_images(
    folder: Path, limit: int | None = None
) -> tuple[list[AnnotatedImage], list[bytes]]:
    """The first `limit` images of packed shards with their bytes, for evaluation."""
    import tensorflow as tf

    images, encoded = [], []
    shards = _read_manifest(folder)
    vertices = _vertices_of(shards)
    for shard in shards:
        _require_lengths(folder / shard["file"])
        for record in tf.data.TFRecordDataset(os.fsencode(folder / shard["file"])):
            if limit is not None and len(images) >= limit:
                return images, encoded
            example = {name: v.numpy() for name, v in _parse(record, vertices).items()}
            path, encoding = Path(os.fsdecode(example.pop("name"))), example.pop("encoded")
            images.append(AnnotatedImage(path, **example))
            encoded.append(encoding)
    return images, encoded


def _require_lengths(path: Path) -> None:
    """Refuses a shard with a record that claims more bytes than there are: TensorFlow would crash."""
    position, remedy = 0, "run `retinaface-tf data pack` again"
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            while position < size:
                file.seek(position)
                # length, its checksum, the record, its checksum
                position += 8 + 4 + int.from_bytes(file.read(8), "little") + 4
    except OSError:
        raise DataError(f"Shard {path} is missing; {remedy}.") from None
    if position > size:
        raise DataError(f"Shard {path} is cut off or damaged; {remedy}.")


def _vertices_of(shards: Sequence[dict]) -> int:
    return max((shard.get("vertices", 0) for shard in shards), default=0)


def _parse(serialized, vertices: int):
    """One record; its faces get meshes of `vertices` vertices, NaN where the record has none."""
    import tensorflow as tf

    numbers = tf.io.FixedLenSequenceFeature([], tf.float32, allow_missing=True)
    example = tf.io.parse_single_example(
        serialized,
        {
            "encoded": tf.io.FixedLenFeature([], tf.string),
            "name": tf.io.FixedLenFeature([], tf.string),
            "boxes": numbers,
            "landmarks": numbers,
            "vertices": numbers,
            "scores": numbers,
            "ignored": tf.io.FixedLenSequenceFeature([], tf.int64, allow_missing=True),
        },
    )
    boxes = tf.reshape(example["boxes"], [-1, 4])
    shape = tf.stack([tf.shape(boxes)[0], vertices, 3])

    def or_unknown(values, shape):
        wanted = tf.reduce_prod(shape)
        unknown = tf.fill([wanted], np.float32("nan"))
        return tf.reshape(
            tf.cond(tf.size(values) == wanted, lambda: values, lambda: unknown), shape
        )

    return {
        "encoded": example["encoded"],
        "name": example["name"],
        "boxes": boxes,
        "landmarks": tf.reshape(example["landmarks"], [-1, 5, 2]),
        "ignored": example["ignored"] > 0,
        "scores": or_unknown(example["scores"], shape[:1]),
        "vertices": tf.ensure_shape(or_unknown(example["vertices"], shape), [None, vertices, 3]),
    }


def _serialize(image: AnnotatedImage) -> bytes:
    import tensorflow as tf

    encoded = read_whole(image.path, error=DataError)

    def numbers(values):
        return tf.train.Feature(float_list=tf.train.FloatList(value=np.ravel(values)))

    def integers(values):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    def text(value):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    features = {
        "encoded": text(encoded),
        "name": text(os.fsencode(image.path)),
        "boxes": numbers(image.boxes),
        "landmarks": numbers(image.landmarks),
        "ignored": integers(image.ignored.astype(int)),
    }
    if np.isfinite(image.scores).any():
        features["scores"] = numbers(image.scores)
    if image.vertices is not None:
        features["vertices"] = numbers(image.vertices)
        features["num_vertices"] = integers([image.num_vertices])
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return example.SerializeToString()


def _write_shard(path: Path, images: Sequence[AnnotatedImage], labels: str) -> dict:
    import tensorflow as tf

    with whole_file(path, error=DataError) as partial:
        with tf.io.TFRecordWriter(os.fsencode(partial)) as writer:
            for image in images:
                writer.write(_serialize(image))
        # TFRecord has a checksum for each record; reading checks them.
        read_back = sum(1 for _ in tf.data.TFRecordDataset(os.fsencode(partial)))
        if read_back != len(images):
            raise DataError(f"Shard {path} reads back {read_back} of {len(images)} images.")
        note = {
            "names": [str(image.path) for image in images],
            "faces": sum(len(image.boxes) for image in images),
            "vertices": common_vertices(images),
            "labels": labels,
            "sha256": sha256_of(partial),
        }
        # Before the shard, so that one without a note is never ours.
        write_whole(path.with_suffix(".json"), json.dumps(note), error=DataError)
    return note


def _read_note(path: Path) -> dict:
    """The note beside a shard; {} where there is none or another file."""
    try:
        note = json.loads(read_text(path.with_suffix(".json")))
    except (DataError, ValueError, RecursionError):
        return {}
    return note if isinstance(note, dict) else {}


def _good_note(path: Path, labels: str) -> dict | None:
    """The note of a shard that is there, whole, and holds these labels."""
    note = _read_note(path)
    # Notes of earlier versions do not say whether faces have meshes.
    if note.get("labels") != labels or "vertices" not in note or not path.is_file():
        return None
    return note if note.get("sha256") == sha256_of(path) else None


def _digest_labels(images: Sequence[AnnotatedImage]) -> str:
    digest = hashlib.sha256()
    for image in images:
        try:
            stat = image.path.stat()
        except OSError as error:
            raise DataError(f"Cannot read {image.path}: {error.strerror or error}.") from None
        digest.update(os.fsencode(f"{image.path}|{stat.st_size}|{stat.st_mtime_ns}"))
        arrays = [image.boxes, image.landmarks, image.ignored]
        arrays += [image.scores] if np.isfinite(image.scores).any() else []
        arrays += [] if image.vertices is None else [image.vertices]
        for values in arrays:
            digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def _read_manifest(folder: Path) -> list[dict]:
    kinds = {"file": str, "sha256": str, "names": list}
    try:
        document = json.loads(read_text(folder / MANIFEST))
        format, shards = document["format"], document["shards"]
        if not all(isinstance(shard[key], kinds[key]) for shard in shards for key in kinds):
            raise TypeError
    except (DataError, *MALFORMED):
        raise DataError(
            f"{folder} has no readable {MANIFEST}; finish `retinaface-tf data pack` first."
        ) from None
    if format != _FORMAT:
        raise DataError(f"{folder / MANIFEST} has format {format}, not {_FORMAT}.")
    return shards
