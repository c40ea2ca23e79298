"""Which images a command line means: files, folders and patterns."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path

from retinaface_tf.errors import ImageError, RetinaFaceError

IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
)


def list_images(
    inputs: Iterable[str | os.PathLike], suffixes: frozenset[str] = IMAGE_SUFFIXES
) -> list[tuple[Path, Path]]:
    """Expands files, folders and patterns, in the order given.

    Args:
        inputs: a file is kept whatever it is called, even if it does not exist (reading it then
            reports that); a folder stands for the images in it and its subfolders, sorted by
            path (names beginning with a dot are left out); a pattern (`*`, `?`, `[...]`, `**`)
            that the shell has not expanded stands for what it matches.
        suffixes: of the files that are looked for in folders, in lower case.

    Returns:
        (file, name) for each image: the name is relative and unique, for results written to
        another folder; images of a folder keep their place under it.

    Raises:
        ImageError: a folder without images, or a pattern that matches nothing.
    """
    listed: list[tuple[Path, Path]] = []
    for given in inputs:
        path = Path(given)
        if path.is_dir():
            listed += _in_folder(path, suffixes)
        elif glob.has_magic(str(path)) and not os.path.lexists(path):
            matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 - absolute ones too
            if not matches:
                raise ImageError(f"Cannot read {path}: no file matches this pattern.")
            for match in map(Path, matches):
                if not match.is_dir():
                    listed.append((match, Path(match.name)))
                elif "**" not in path.parts:  # ** names the files of the folders by itself
                    listed += _in_folder(match, suffixes)
        else:
            listed.append((path, Path(path.name)))
    return _unique_names(listed)


def _in_folder(folder: Path, suffixes: frozenset[str]) -> list[tuple[Path, Path]]:
    endings = tuple(suffixes)
    failures: list[OSError] = []
    found = []
    for parent, subfolders, files in os.walk(folder, onerror=failures.append):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        found += [
            Path(parent, name)
            for name in files
            if name.lower().endswith(endings) and not name.startswith(".")
        ]
    if failures:
        raise ImageError(
            f"Cannot read {failures[0].filename}: {(failures[0].strerror or 'unreadable').lower()}."
        )
    if not found:
        raise ImageError(
            f"Cannot read {folder}: the folder holds no images ({', '.join(sorted(suffixes))})."
        )
    return [(path, path.relative_to(folder)) for path in sorted(found)]


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


def demo_photo() -> Path:
    """A portrait by NASA with one face, 512x512 pixels, public domain.

    Raises:
        RetinaFaceError: scikit-image, which it comes with, is not installed.
    """
    try:
        import skimage
    except ImportError:
        raise RetinaFaceError(
            "The photo by NASA comes with scikit-image, which is not installed: give a photo of "
            "yours, or pip install 'retinaface-tf[demo]'."
        ) from None
    return Path(skimage.__file__).parent / "data" / "astronaut.png"
