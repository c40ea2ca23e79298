"""What commands write: JSON lines, images with boxes, aligned crops, meshes, a table."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TextIO

import numpy as np

from retinaface_tf.errors import RetinaFaceError
from retinaface_tf.faces.faces import Faces
from retinaface_tf.images.save import save_image
from retinaface_tf.util.files import write_whole


def write_text(target: str | Path, text: str) -> None:
    """Writes a whole file or, for "-", to standard output."""
    if str(target) == "-":
        sys.stdout.write(text)
    else:
        write_whole(target, text, error=RetinaFaceError)


class JsonLines:
    """A writer of one JSON object a line, to a file or, for "-", to standard output.

    A file is written as `NAME.part` and renamed at the end: a finished file is always whole, and an
    interrupted run keeps its lines.
    """

    def __init__(self, target: str):
        self._path = None if target == "-" else Path(target)
        if self._path is None:
            self._stream: TextIO = sys.stdout
        else:
            self._part = self._path.with_name(self._path.name + ".part")
            try:
                self._part.parent.mkdir(parents=True, exist_ok=True)
                self._stream = self._part.open("w", encoding="utf-8")
            except OSError as error:
                raise RetinaFaceError(f"Cannot write {self._part}: {error.strerror}.") from error

    def __enter__(self) -> JsonLines:
        return self

    def write(self, entry: dict) -> None:
        """Appends a line and flushes it."""
        self._stream.write(json.dumps(entry, ensure_ascii=False) + "\n")
        self._stream.flush()

    def __exit__(self, kind, *_):
        if self._path is None:
            return
        self._stream.close()
        if kind is None:
            self._part.replace(self._path)


def save_crops(folder: Path, name: Path, image: np.ndarray, faces: Faces) -> None:
    """Writes each face, aligned to 112x112, as `folder/NAME_INDEX.png`; best score first."""
    for i, crop in enumerate(faces.align(image)):
        save_image(folder / name.with_name(f"{name.stem}_{i:03d}.png"), crop)


def save_meshes(folder: Path, name: Path, image: np.ndarray, faces: Faces, suffix: str) -> None:
    """Writes each face's mesh as `folder/NAME_INDEX.obj` or `.ply`; best score first.

    Axes are those of modelling programs: x to the image's right, y up, z to the viewer, in pixels.
    A PLY has the photo's colours, an OBJ texture coordinates.
    """
    if faces.vertices is None:
        return
    from retinaface_tf.mesh.files import sample_colors, write_obj, write_ply
    from retinaface_tf.mesh.topology import load_topology

    topology = load_topology()
    for i, vertices in enumerate(faces.vertices):
        path = folder / name.with_name(f"{name.stem}_{i:03d}.{suffix}")
        if suffix == "ply":
            write_ply(path, vertices, topology.triangles, sample_colors(image, vertices))
        else:
            write_obj(path, vertices, topology.triangles, topology.uv)


class Summary:
    """Counts, and a table of the first faces for a person to read."""

    TABLE_ROWS = 40

    def __init__(self):
        self.images = self.errors = self.faces = 0
        self._rows: list[tuple[str, ...]] = []

    def add(self, name: str, faces: Faces) -> None:
        """Notes the faces of an image."""
        self.images += 1
        self.faces += len(faces)
        for number, face in enumerate(faces, start=1):
            if len(self._rows) < self.TABLE_ROWS:
                x1, y1, x2, y2 = face.box
                corner, size = f"{x1:.0f},{y1:.0f}", f"{x2 - x1:.0f} x {y2 - y1:.0f}"
                eyes = "  ".join(f"{x:.0f},{y:.0f}" for x, y in face.landmarks[:2])
                self._rows.append((name, str(number), f"{face.score:.3f}", corner, size, eyes))

    def print(self) -> None:
        """The table and the counts, on standard output."""
        from rich.console import Console
        from rich.table import Table

        console = Console()
        if self._rows:
            table = Table("image")
            for title in ("face", "score", "left, top", "size", "eyes"):
                table.add_column(title, no_wrap=True)
            for row in self._rows:
                table.add_row(*row)
            console.print(table)
        hidden = self.faces - len(self._rows)
        more = f" ({hidden} not listed)" if hidden else ""
        failed = f", {self.errors} unreadable" if self.errors else ""
        console.print(
            f"{self.faces} face{'s' * (self.faces != 1)}{more} in "
            f"{self.images} image{'s' * (self.images != 1)}{failed}"
        )
