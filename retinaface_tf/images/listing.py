"""Which images a command line means: files, folders and patterns."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from retinaface_tf.errors import ImageError
from retinaface_tf.images.decode import REMEDIES, readable_suffixes
from retinaface_tf.images.save import mark_in
from retinaface_tf.util.files import is_folder, is_special, reason_of

IMAGE_SUFFIXES = readable_suffixes()
VIDEO_SUFFIXES = frozenset(
    (
        *(".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mjpg", ".mkv", ".mov"),
        *(".mp4", ".mpeg", ".mpg", ".mts", ".ts", ".webm", ".wmv"),
    )
)
# Files that hold many images.
TAR_SUFFIXES = frozenset((".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz"))
TABLE_SUFFIXES = frozenset((".parquet", ".pq"))
_MARKED = IMAGE_SUFFIXES | VIDEO_SUFFIXES
# What a person takes for a photo or a video too; other files in a folder are not worth a word.
_ALSO_PICTURES = frozenset(
    (
        *(
            ".heic",
            ".heif",
            ".hif",
            ".avif",
            ".jxl",
            ".jp2",
            ".psd",
            ".svg",
            ".pdf",
            ".raw",
            ".dng",
        ),
        *(".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", *VIDEO_SUFFIXES),
    )
)
_HINTS = {
    **dict.fromkeys(("HEIC", "HEIF", "HIF"), f" ({REMEDIES['HEIC']})"),
    "AVIF": f" ({REMEDIES['AVIF']})",
    "linked folder": " (give it by its name)",
    **{suffix[1:].upper(): " (videos are named one by one)" for suffix in VIDEO_SUFFIXES},
}


class Listed(NamedTuple):
    """What a command line means.

    Attributes:
        images: (file, name) of each: the name is relative and unique, for results written to
            another folder; images of a folder keep their place under it.
        left_out: files in folders that are not among them, by what they are ("MOV", "own output").
    """

    images: list[tuple[Path, Path]]
    left_out: Counter[str]


def is_packed(path: str | os.PathLike[str]) -> bool:
    """Whether a name is that of a tar or table."""
    return os.fspath(path).lower().endswith(tuple(TAR_SUFFIXES | TABLE_SUFFIXES))


def list_images(
    inputs: Iterable[str | os.PathLike[str]], suffixes: frozenset[str] = IMAGE_SUFFIXES
) -> list[tuple[Path, Path]]:
    """The images of `list_inputs`."""
    return list_inputs(inputs, suffixes).images


def list_inputs(
    inputs: Iterable[str | os.PathLike[str]],
    suffixes: frozenset[str] = IMAGE_SUFFIXES,
    skipped: Collection[Path] = (),
) -> Listed:
    """Expands files, folders and patterns, in the order given.

    Args:
        inputs: a file is kept whatever it is called, even if it does not exist (reading it then
            reports that); a folder stands for the images in it and its subfolders, sorted by
            path (names beginning with a dot and images that this package drew or cropped are left
            out); a pattern (`*`, `?`, `[...]`, `**`) that the shell has not expanded stands for
            what it matches.
        suffixes: of the files that are looked for in folders, in lower case.
        skipped: folders below which nothing is looked for, such as those of outputs.

    Raises:
        ImageError: an empty name, a folder without images, or a pattern that matches nothing.
    """
    listed: list[tuple[Path, Path]] = []
    left_out: Counter[str] = Counter()
    walk = _Walk(suffixes, {os.path.realpath(folder) for folder in skipped}, left_out)
    for given in inputs:
        if not os.fspath(given):
            raise ImageError("An input has an empty name; name a file, or . for this folder.")
        path = Path(given)
        if is_folder(path):
            listed += walk.images(path)
        elif glob.has_magic(str(path)) and not os.path.lexists(path):
            matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 - absolute ones too
            if not matches:
                raise ImageError(f"Cannot read {path}: no file matches this pattern.")
            for match in map(Path, matches):
                if "**" in path.parts and _behind_link(match, path.parts.index("**")):
                    continue
                if not is_folder(match):
                    listed.append((match, Path(match.name)))
                elif "**" not in path.parts:  # ** names the files of the folders by itself
                    listed += walk.images(match)
        elif "://" in os.fspath(given):
            remedy = "of addresses, only http and https are read here"
            if os.fspath(given).startswith(("http://", "https://")):
                remedy = "only detect without --engine, and blur, read addresses; download it first"
            raise ImageError(f"Cannot read {given}: {remedy}.")
        else:
            listed.append((path, Path(path.name)))
    return Listed(_unique_names(listed), left_out)


def _behind_link(match: Path, place: int) -> bool:
    """Whether a linked folder is among the parts from a place on: `**` would follow its loops."""
    return any(Path(*match.parts[:end]).is_symlink() for end in range(place + 1, len(match.parts)))


class _Walk:
    """Looks for images in folders, and counts what else is there."""

    def __init__(self, suffixes: frozenset[str], skipped: set[str], left_out: Counter[str]):
        self._endings, self._skipped, self._left_out = tuple(suffixes), skipped, left_out

    def images(self, folder: Path) -> list[tuple[Path, Path]]:
        failures: list[OSError] = []
        found = []
        for parent, subfolders, files in os.walk(folder, onerror=failures.append):
            subfolders[:] = [name for name in subfolders if self._enters(parent, name)]
            found += [Path(parent, name) for name in files if self._takes(Path(parent, name))]
        for failure in failures:
            if Path(failure.filename) == folder:
                raise ImageError(f"Cannot read {folder}: {reason_of(failure)}.")
            found.append(Path(failure.filename))  # reading it says that it cannot be read
        if not found:
            raise ImageError(
                f"Cannot read {folder}: the folder holds no images "
                f"({', '.join(sorted(self._endings))}){said_left_out(self._left_out, '; it has ')}."
            )
        return [(path, path.relative_to(folder)) for path in sorted(found)]

    def _enters(self, parent: str, name: str) -> bool:
        path = Path(parent, name)
        if name.startswith(".") or (self._skipped and os.path.realpath(path) in self._skipped):
            return False
        if path.is_symlink():  # perhaps a loop; `os.walk` does not follow it
            self._left_out["linked folder"] += 1
            return False
        return True

    def _takes(self, path: Path) -> bool:
        if path.name.startswith("."):
            return False
        if not path.name.lower().endswith(self._endings):
            if path.suffix.lower() in _ALSO_PICTURES:
                self._left_out[path.suffix[1:].upper()] += 1
            return False
        if is_special(path):
            self._left_out["pipe or device"] += 1
            return False
        # Others, such as tars in a bucket, are not opened for it.
        if path.suffix.lower() in _MARKED and mark_in(path) is not None:
            self._left_out["own output"] += 1
            return False
        return True


def said_left_out(left_out: Counter[str], begin: str = "") -> str:
    """Such as "3 files left out: 2 HEIC (...), 1 MOV", the most frequent first; "" for none."""
    if not left_out:
        return ""
    kinds = []
    for kind, count in sorted(left_out.items(), key=lambda item: (-item[1], item[0])):
        hint = _HINTS.get(kind, "")
        kinds.append(f"{count} {kind}{hint}")
    total = sum(left_out.values())
    return f"{begin}{total} file{'s' * (total != 1)} left out: {', '.join(kinds)}"


def _unique_names(listed: list[tuple[Path, Path]]) -> list[tuple[Path, Path]]:
    """Numbers the later of two equal names: a.jpg, a_2.jpg."""
    taken: set[Path] = set()
    unique = []
    for path, name in listed:
        free, number = name, 2
        while free in taken:
            free = name.with_name(f"{name.stem}_{number}{name.suffix}")
            number += 1
        taken.add(free)
        unique.append((path, free))
    return unique
