"""`.npz` files: named arrays and a JSON note, written whole, and read without running anything in them."""

import io
import json
import os
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np

from retinaface_tf.errors import RetinaFaceError, WeightsError
from retinaface_tf.util.bounds import LARGEST, open_archive, parse_json
from retinaface_tf.util.files import whole_file

# What zipfile raises for an archive that is damaged or of a kind that it does not read.
DAMAGED_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError)


def write_npz(
    path: str | Path,
    arrays: dict[str, np.ndarray],
    note: dict[str, Any] | None = None,
    *,
    key: str = "note",
    compressed: bool = True,
    error: type[RetinaFaceError] = WeightsError,
) -> Path:
    """Writes arrays and a note, whole or not at all; the same content gives the same bytes.

    Args:
        path: of the file.
        arrays: by name; none of them is called `key`.
        note: plain values, kept as JSON in a uint8 array; None for no note.
        key: name of that array.
        compressed: smaller and slower.
        error: class of what is raised.

    Raises:
        WeightsError: or `error`: the file cannot be written.
    """
    with whole_file(path, error=error) as partial, partial.open("wb") as file:
        _pack(file, arrays, note, key, compressed)
        file.flush()
        os.fsync(file.fileno())
    return Path(path)


def npz_bytes(arrays: dict[str, np.ndarray]) -> bytes:
    """The bytes of a compressed `.npz` file of arrays, without a note."""
    buffer = io.BytesIO()
    _pack(buffer, arrays, None, "", True)
    return buffer.getvalue()


def read_npz(
    source: str | Path | bytes,
    *,
    key: str | None = "note",
    name: str | Path | None = None,
    limit: int | None = LARGEST,
    remedy: str = "copy it again",
    error: type[RetinaFaceError] = WeightsError,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays of a file and its note.

    Args:
        source: path of the file, or its bytes.
        key: name of the array with the note; None where there is none, which gives {}.
        name: of the file in messages; the path where it is left out.
        limit: most bytes that the arrays may take in memory; None for any number.
        remedy: what to do about damage, as the end of a sentence.
        error: class of what is raised.

    Raises:
        WeightsError: or `error`: the file cannot be read, is damaged, larger than `limit`, holds
            pickled objects or no such note.
    """
    name = name or source
    try:
        with open_archive(source, name, error=error) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if limit is not None and size > limit:
            raise ValueError(f"{size} bytes of arrays")
        with np.load(_open(source), allow_pickle=False) as file:
            arrays = {entry: file[entry] for entry in file.files}
        note = parse_json(arrays.pop(key).tobytes()) if key is not None else {}
        if not isinstance(note, dict):
            raise ValueError("a note without names")
    except RetinaFaceError:
        raise
    except Exception as failure:  # numpy, zipfile, zlib and json report damage in many classes
        if isinstance(failure, OSError) and failure.errno:
            raise error(f"Cannot read {name}: {os.strerror(failure.errno)}.") from None
        raise error(
            f"{name} is truncated or damaged ({type(failure).__name__}); {remedy}."
        ) from None
    return arrays, note


def to_float16(
    arrays: dict[str, np.ndarray],
    *,
    axes: int = 0,
    error: type[RetinaFaceError] = WeightsError,
) -> dict[str, np.ndarray]:
    """Arrays in half their bytes; those of fewer than `axes` axes stay as they are.

    Raises:
        WeightsError: or `error`: a number is not finite, or beyond float16's range.
    """
    halved = {}
    for name, values in arrays.items():
        with np.errstate(over="ignore"):
            halved[name] = values.astype("<f2") if values.ndim >= axes else values
        if not np.isfinite(halved[name]).all():
            raise error(f"{name} has numbers that float16 cannot hold; train it again.")
    return halved


def _open(source: str | Path | bytes) -> str | Path | IO[bytes]:
    return io.BytesIO(source) if isinstance(source, bytes) else source


def _pack(file: IO[bytes], arrays, note: dict | None, key: str, compressed: bool) -> None:
    save = np.savez_compressed if compressed else np.savez
    if note is not None:
        arrays = {key: np.frombuffer(json.dumps(note).encode(), np.uint8), **arrays}
    save(file, **arrays)
