"""Text that commands write to a file or to standard output."""

import sys
from collections.abc import Iterable
from pathlib import Path

from retinaface_tf.errors import RetinaFaceError
from retinaface_tf.images.save import mark_in, mark_of
from retinaface_tf.util.files import require_free, write_whole


def require_sheet(sheet: Path, source: Path, inputs: Iterable[Path], overwrite: bool) -> str:
    """Refuses a page of drawings that is in the way, unless an earlier run drew it of the same source.

    Args:
        sheet: to write.
        source: of what is drawn.
        inputs: files that are read.
        overwrite: replace another file.

    Returns:
        the mark that the page has to carry.

    Raises:
        ConfigError: see `require_free`.
    """
    mark = mark_of(source)
    require_free(sheet, inputs, overwrite=overwrite or mark_in(sheet) == mark)
    return mark


def write_text(target: str | Path, text: str) -> None:
    """Writes a whole file or, for "-", to standard output."""
    if str(target) == "-":
        sys.stdout.write(text)
    else:
        write_whole(target, text, error=RetinaFaceError)
