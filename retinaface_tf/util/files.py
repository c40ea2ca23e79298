"""Files that are there whole or not at all, and what identifies them."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from retinaface_tf.errors import RetinaFaceError, WeightsError


@contextlib.contextmanager
def whole_file(
    path: str | Path, *, error: type[RetinaFaceError] = WeightsError, suffix: str = ""
) -> Iterator[Path]:
    """A temporary path in the same folder; the block writes it, then it takes the file's place.

    A link stays a link: the file it leads to is replaced. A pipe or device is written into.

    Args:
        path: of the file; its folder is made where it is missing.
        error: class of what is raised.
        suffix: the temporary name ends in it, for writers that go by a name's ending.

    Yields:
        The path to write. When the block fails, nothing is left behind and `path` stays as it was.

    Raises:
        WeightsError: or `error`: the file cannot be written.
    """
    path = Path(path)
    try:
        target = path.resolve() if path.is_symlink() else path
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, "")
        special = target.exists() and not target.is_file()
        folder = Path(tempfile.gettempdir()) if special else target.parent
        # Only a part of the name: with more added, a long one would pass the system's limit.
        partial = folder / f".{target.name[:40]}.{uuid.uuid4().hex[:8]}{suffix}"
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as failure:
        raise error(cannot_write(path, failure)) from None
    try:
        yield partial
        if special:
            with partial.open("rb") as source, target.open("wb") as file:
                shutil.copyfileobj(source, file)
        else:
            partial.replace(target)
    except OSError as failure:
        raise error(cannot_write(path, failure)) from None
    finally:
        with contextlib.suppress(OSError):  # gone already, or its folder is no folder
            partial.unlink()


def cannot_write(path: str | Path, failure: OSError) -> str:
    """The sentence for a file that could not be written."""
    reason = os.strerror(failure.errno) if failure.errno else str(failure) or "it failed"
    return f"Cannot write {path}: {reason[0].lower()}{reason[1:]}."


def write_whole(
    path: str | Path, content: bytes | str, *, error: type[RetinaFaceError] = WeightsError
) -> Path:
    """Writes bytes, or text as UTF-8, as `whole_file` does.

    Raises:
        WeightsError: or `error`: the file cannot be written.
    """
    with whole_file(path, error=error) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
    return Path(path)


def sha256_of(path: str | Path) -> str:
    """The sha256 of a file's bytes in hexadecimal; memory does not grow with the file.

    Raises:
        OSError: it cannot be read.
    """
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
