"""Files that are there whole or not at all, and what identifies them."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import stat
import sys
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

from retinaface_tf.errors import ConfigError, RetinaFaceError, WeightsError


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
        if is_folder(path):
            raise IsADirectoryError(errno.EISDIR, "")
        stream = stream_of(path)
        special = stream is not None or is_special(path)
        target = path.resolve() if path.is_symlink() and not special else path
        folder = Path(tempfile.gettempdir()) if special else target.parent
        # Only a part of the name: with more added, a long one would pass the system's limit.
        partial = folder / f".{target.name[:40]}.{uuid.uuid4().hex[:8]}{suffix}"
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as failure:
        raise error(cannot_write(path, failure)) from None
    try:
        yield partial
        if special:
            place = target if stream is None else os.dup(stream)
            with partial.open("rb") as source, open(place, "wb") as file:  # noqa: PTH123
                shutil.copyfileobj(source, file)
        else:
            partial.replace(target)
    except OSError as failure:
        raise error(cannot_write(path, failure)) from None
    finally:
        with contextlib.suppress(OSError):  # gone already, or its folder is no folder
            partial.unlink()


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Whether a folder has this name; for one too long for any file `Path.is_dir` raises."""
    return os.path.isdir(path)  # noqa: PTH112


def is_file(path: str | os.PathLike[str]) -> bool:
    """Whether a file has this name; for one too long for any file `Path.is_file` raises."""
    return os.path.isfile(path)  # noqa: PTH113


def is_special(path: str | os.PathLike[str]) -> bool:
    """Whether a pipe, device or socket has this name: neither a file nor a folder."""
    return os.path.exists(path) and not is_file(path) and not is_folder(path)  # noqa: PTH110


def stream_of(path: str | os.PathLike[str]) -> int | None:
    """The descriptor that /dev/stdout, /dev/stderr or /dev/fd/N means; None for any other name.

    Where it leads to a file, that is written on: opening the name would begin it anew.
    """
    match = re.fullmatch(r"/(?:dev|proc/self)/(?:fd/(\d+)|std(out|err))", os.fspath(path))
    if match is None:
        return None
    number = int(match[1] or 1 + (match[2] == "err"))
    # Descriptor 2 may lead nowhere, since C++ writes to it.
    return sys.stderr.fileno() if number == 2 else number


def reason_of(failure: OSError | ValueError) -> str:
    """Why the system refused a file, as the end of a sentence."""
    code = getattr(failure, "errno", None)
    reason = os.strerror(code) if code else str(failure) or "it failed"
    return f"{reason[0].lower()}{reason[1:]}"


def cannot_write(path: str | Path, failure: OSError | ValueError) -> str:
    """The sentence for a file that could not be written."""
    return f"Cannot write {path}: {reason_of(failure)}."


def require_free(
    path: str | Path, inputs: Iterable[str | Path] = (), *, overwrite: bool = False
) -> None:
    """Refuses an output before the work begins where it cannot be written, or would replace something.

    Args:
        path: of the file; an empty one, a pipe and a device may be written into.
        inputs: files that are read: never written, whatever `overwrite` says.
        overwrite: the person wants a file that is there replaced.

    Raises:
        ConfigError: the sentence says what is in the way.
    """
    path = Path(path)
    if stream_of(path) is not None:
        return
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "")
        try:
            known = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            known = None
        if known is not None and not stat.S_ISREG(known.st_mode):
            if not os.access(path, os.W_OK):
                raise PermissionError(errno.EACCES, "")
            return
        _require_place(path.resolve())
    except (OSError, ValueError) as failure:
        raise ConfigError(cannot_write(path, failure)) from None
    if known is None:
        return
    if any(_is_file(source, known) for source in inputs):
        raise ConfigError(f"{path} is one of the inputs; give the output another name.")
    if known.st_size and not overwrite:
        raise ConfigError(
            f"{path} is there already: --overwrite replaces it, or give another name."
        )


def _require_place(path: Path) -> None:
    """Raises OSError where no file can be made at an absolute path, whose folders may be missing."""
    if any(len(os.fsencode(part)) > 255 for part in path.parts):
        raise OSError(errno.ENAMETOOLONG, "")
    folder = next(parent for parent in path.parents if os.path.lexists(parent))
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "")


def _is_file(path: str | Path, known: os.stat_result) -> bool:
    try:
        own = Path(path).stat()
    except (OSError, ValueError):
        return False
    return (own.st_dev, own.st_ino) == (known.st_dev, known.st_ino)


def require_folder(folder: str | Path) -> Path:
    """Makes a folder for outputs, before the work begins.

    Raises:
        ConfigError: a file has its name, or it cannot be made or written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as failure:
        a_file = isinstance(failure, FileExistsError)
        reason = "a file has this name" if a_file else reason_of(failure)
        raise ConfigError(
            f"The folder {folder} cannot be made ({reason}); choose another."
        ) from None
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"You may not write into the folder {folder}; choose another.")
    return folder


def write_whole(
    path: str | Path,
    content: bytes | memoryview | str,
    *,
    error: type[RetinaFaceError] = WeightsError,
) -> Path:
    """Writes bytes, or text as UTF-8 with names' other bytes as they are, as `whole_file` does.

    Raises:
        WeightsError: or `error`: the file cannot be written.
    """
    with whole_file(path, error=error) as partial:
        partial.write_bytes(
            content.encode(errors="surrogateescape") if isinstance(content, str) else content
        )
    return Path(path)


def sha256_of(path: str | Path) -> str:
    """The sha256 of a file's bytes in hexadecimal; memory does not grow with the file.

    Raises:
        OSError: it cannot be read.
    """
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
