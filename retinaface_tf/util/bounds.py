"""What a stranger's file may cost: bytes, the members of an archive, depth; looked at before the work.

A few kilobytes can stand for gigabytes: a sparse file, an archive of zeros, tables in tables.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from retinaface_tf.errors import RetinaFaceError, WeightsError
from retinaface_tf.util.files import reason_of

# No file of weights, labels or pixels that is read at once has more bytes.
LARGEST = 1 << 30
# Numbers that were learned hardly shrink: more than so many times a file's own size is no packed network.
_GROWTH = 20
_SMALL = 64 << 20
_DEPTH = 64
# tomllib's work grows with the square of a dotted key's length.
_DOTS = 256


def read_whole(
    path: str | os.PathLike[str],
    *,
    limit: int = LARGEST,
    error: type[RetinaFaceError] = WeightsError,
) -> bytes:
    """The bytes of a file or pipe, whose size is looked at first.

    Raises:
        WeightsError: or `error`: it cannot be read, or has more than `limit` bytes.
    """
    try:
        with Path(path).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            # One byte more than a pipe, whose size is not known, may have.
            content = b"" if size > limit else file.read(limit + 1)
    except (OSError, ValueError) as failure:
        raise error(f"Cannot read {path}: {reason_of(failure)}.") from None
    if max(size, len(content)) > limit:
        raise error(
            f"Cannot read {path}: it has more than {limit:,} bytes, the most for such a file."
        )
    return content


def require_growth(
    name: object, declared: int, size: int, *, error: type[RetinaFaceError] = WeightsError
) -> None:
    """Refuses a file that says that it unpacks to far more than its own size.

    Args:
        name: of the file, in the message.
        declared: bytes that it says it unpacks to.
        size: bytes that it has.

    Raises:
        WeightsError: or `error`: it is no file of numbers.
    """
    if declared > max(_SMALL, _GROWTH * size):
        raise error(
            f"{name} would unpack from {size:,} bytes to {declared:,}, which no file of weights "
            "does; distrust it."
        )


@contextlib.contextmanager
def open_archive(
    source: str | os.PathLike[str] | bytes,
    name: object = None,
    *,
    error: type[RetinaFaceError] = WeightsError,
) -> Iterator[zipfile.ZipFile]:
    """A zip archive whose members fit `require_growth`; zipfile reads no more of one than it declares.

    Raises:
        WeightsError: or `error`: they do not.
        OSError, ValueError, ...: as zipfile raises for what is no archive.
    """
    inner = isinstance(source, bytes)
    size = len(source) if inner else os.stat(source).st_size  # noqa: PTH116
    with zipfile.ZipFile(io.BytesIO(source) if inner else source) as archive:
        declared = sum(entry.file_size for entry in archive.infolist())
        require_growth(name or source, declared, size, error=error)
        yield archive


def parse_json(text: str | bytes) -> Any:
    """As `json.loads`, without tables in tables beyond sense.

    Raises:
        ValueError: it is no JSON, or nested deeper than any file of ours.
    """
    return _shallow(json.loads, text)


def parse_toml(text: str) -> dict[str, Any]:
    """As `tomllib.loads`, without tables in tables beyond sense.

    Raises:
        ValueError: it is no TOML, or nested deeper than any file of ours.
    """
    if max(line.count(".") for line in text.split("\n")) > _DOTS:
        raise ValueError(f"a line has more than {_DOTS} dots")
    return _shallow(tomllib.loads, text)


def _shallow(parse, text):
    too_deep = ValueError(f"it is nested deeper than {_DEPTH} levels")
    try:
        values = parse(text)
    except RecursionError:
        raise too_deep from None
    level = [values]
    for _ in range(_DEPTH):
        level = [
            inner
            for value in level
            if isinstance(value, dict | list)
            for inner in (value.values() if isinstance(value, dict) else value)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return values
    raise too_deep
