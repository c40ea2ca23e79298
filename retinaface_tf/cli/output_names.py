"""Where a command's results go: no file that was read, and no stranger's file, is ever replaced.

A drawing, crop, mesh or video that another run made of the same source carries its mark
(`images.save.mark_of`) and is replaced; every other file that is in the way keeps its name, and the new
one gets a number: a.jpg, a_2.jpg.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from retinaface_tf.images.save import mark_in

_LONGEST_NAME = 255  # bytes, on the file systems in use


class OutputNames:
    """Gives each output a path of its own.

    Args:
        inputs: files that are read; they are never written, whatever `overwrite` says.
        overwrite: replace files that are in the way.
    """

    def __init__(self, inputs: Iterable[Path] = (), *, overwrite: bool = False):
        self._inputs = {identity for path in inputs if (identity := _identity(path))}
        self._given: set[Path] = set()
        self._overwrite = overwrite

    def claim(self, path: Path, mark: str | None = None) -> Path:
        """A path that nothing else in this run has, and where nothing of value is.

        Args:
            path: the name wished for; a longer one than file systems take is shortened.
            mark: of the source; a file that carries it may be replaced.
        """
        path, number = _shortened(path), 2
        free = path
        while free in self._given or not self._may_write(free, mark):
            free = _shortened(path.with_name(f"{path.stem}_{number}{path.suffix}"))
            number += 1
        self._given.add(free)
        return free

    def _may_write(self, path: Path, mark: str | None) -> bool:
        if not os.path.lexists(path):
            return True
        if _identity(path) in self._inputs or not path.is_file():
            return False
        return self._overwrite or (mark is not None and mark_in(path) == mark)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        known = path.stat()
    except (OSError, ValueError):
        return None
    return known.st_dev, known.st_ino


def _shortened(path: Path) -> Path:
    """The path, its last name cut so that the file system takes it; different names stay different."""
    name = os.fsencode(path.name)
    if len(name) <= _LONGEST_NAME:
        return path
    suffix = os.fsencode(path.suffix)[:20]
    digest = hashlib.sha256(name).hexdigest()[:8].encode()
    kept = name[: _LONGEST_NAME - len(suffix) - 10].decode("utf-8", "ignore")
    return path.with_name(f"{kept}_{digest.decode()}{os.fsdecode(suffix)}")


def own_stems(names: Iterable[Path]) -> list[Path]:
    """For each input's name one without suffix that no other has: a, but a_jpg and a_png for two.

    They depend on the set of names alone, but for names that are wholly alike.
    """
    names = list(names)
    bare = Counter(name.with_suffix("") for name in names)
    stems, taken = [], set(bare)
    for name in names:
        stem = name.with_suffix("")
        if bare[stem] > 1:
            stem = wished = name.with_name(name.name.replace(".", "_"))
            number = 2
            while stem in taken:
                stem = wished.with_name(f"{wished.name}_{number}")
                number += 1
            taken.add(stem)
        stems.append(stem)
    return stems
