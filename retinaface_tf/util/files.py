"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path

from retinaface_tf.errors import RetinaFaceError, WeightsError


def write_whole(
    path: str | Path, content: bytes, *, error: type[RetinaFaceError] = WeightsError
) -> Path:
    """Writes under a temporary name in the same folder and renames.

    Args:
        path: of the file; its folder is made where it is missing.
        content: of the file.
        error: class of what is raised.

    Raises:
        WeightsError: or `error`: the folder cannot be written.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as failure:
        reason = os.strerror(failure.errno) if failure.errno else failure
        raise error(f"Cannot write {path}: {reason}.") from None
    finally:
        with contextlib.suppress(OSError):  # its folder may be no folder, which was just said
            partial.unlink()
    return path
