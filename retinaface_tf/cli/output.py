"""Text that commands write to a file or to standard output."""

from __future__ import annotations

import sys
from pathlib import Path

from retinaface_tf.errors import RetinaFaceError
from retinaface_tf.util.files import write_whole


def write_text(target: str | Path, text: str) -> None:
    """Writes a whole file or, for "-", to standard output."""
    if str(target) == "-":
        sys.stdout.write(text)
    else:
        write_whole(target, text, error=RetinaFaceError)
