"""The shards of a bulk run: each some hundred images, and one file of results."""

import dataclasses
import hashlib
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ClassVar

from retinaface_tf.bulk.bulk_image import BulkImage
from retinaface_tf.bulk.table import TablePart, list_table
from retinaface_tf.bulk.tar import TarPart, list_tar
from retinaface_tf.errors import ConfigError, ImageError
from retinaface_tf.images.listing import (
    IMAGE_SUFFIXES,
    TABLE_SUFFIXES,
    TAR_SUFFIXES,
    is_packed,
    list_images,
)

# Tars and tables that are looked into at once: a bucket answers late.
_WAITING = 32


@dataclass(frozen=True)
class FilesPart:
    """Images that are files of their own."""

    kind: ClassVar[str] = "files"
    names: tuple[str, ...]

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.names)

    def images(self) -> Iterator[BulkImage]:
        """Each path."""
        return (BulkImage(None, name, name) for name in self.names)


@dataclass(frozen=True)
class DamagedPart:
    """A tar or table, or its end, that cannot be read: one row of results that says so."""

    kind: ClassVar[str] = "damaged"
    path: str
    problem: str
    count: ClassVar[int] = 1

    def images(self) -> Iterator[BulkImage]:
        """The one problem."""
        yield BulkImage(self.path, "", None, self.problem)


Part = FilesPart | TarPart | TablePart | DamagedPart


@dataclass(frozen=True)
class Shard:
    """A piece of a bulk run: done completely, or again.

    Attributes:
        first: number, in the whole run, of its first image.
    """

    number: int
    first: int
    part: Part

    def to_json(self) -> str:
        """One line that tells shards of different images apart."""
        part = {"kind": self.part.kind, **dataclasses.asdict(self.part)}
        return json.dumps({"number": self.number, "first": self.first, "part": part})


def list_shards(
    inputs: Iterable[str | os.PathLike],
    *,
    rows: int,
    image_column: str | None = None,
    name_column: str | None = None,
) -> list[Shard]:
    """Expands folders, patterns, tars and tables into shards, always the same for the same files.

    Args:
        inputs: as for `list_images`, and tars and Parquet tables; a folder stands for the images,
            tars and tables in it and its subfolders.
        rows: most images of a shard; a compressed tar is one shard, whatever its size.
        image_column, name_column: of tables, see `list_table`.

    Raises:
        ImageError: an input is missing, or there is no image in all of them.
        ConfigError: rows is not positive, or a table's column is missing or not clear.
    """
    if not isinstance(rows, int) or rows < 1:
        raise ConfigError(f"shard_size={rows!r} must be a whole number, at least 1.")
    parts: list[Part] = []
    files: list[str] = []

    def flush() -> None:
        parts.extend(FilesPart(tuple(files[i : i + rows])) for i in range(0, len(files), rows))
        files.clear()

    listed = list_images(inputs, IMAGE_SUFFIXES | TAR_SUFFIXES | TABLE_SUFFIXES)
    # Workers may run in another folder, and on another machine.
    names = [os.path.abspath(path) for path, _ in listed]  # noqa: PTH100 - Path.resolve would follow links

    def look_into(name: str) -> tuple[Sequence[Part], str | None]:
        if name.lower().endswith(tuple(TABLE_SUFFIXES)):
            return list_table(name, rows, image_column, name_column)
        return list_tar(name, rows)

    with ThreadPoolExecutor(_WAITING) as pool:
        found = pool.map(look_into, filter(is_packed, names))
        for name in names:
            if not is_packed(name):
                files.append(name)
                continue
            flush()
            inside, problem = next(found)
            parts += inside
            if problem:
                parts.append(DamagedPart(name, problem))
    flush()
    if not parts:
        given = ", ".join(map(str, inputs))
        raise ImageError(f"Cannot read {given}: there is no image in it.")
    counts = [part.count for part in parts]
    firsts = itertools.accumulate(counts[:-1], initial=0)
    return [Shard(number, first, part) for number, (first, part) in enumerate(zip(firsts, parts))]


def digest_shards(shards: Iterable[Shard]) -> str:
    """SHA-256 of all shards: changes when an image is added, removed or renamed."""
    digest = hashlib.sha256()
    for shard in shards:
        digest.update(shard.to_json().encode() + b"\n")
    return digest.hexdigest()
