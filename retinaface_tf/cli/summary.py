"""The table of faces that people read, and the counts below it."""

import sys
from typing import Any

from retinaface_tf.faces.faces import Faces


class Summary:
    """Counts, and a table of faces.

    Args:
        every: list all faces, not only the first.
    """

    TABLE_ROWS = 40

    def __init__(self, every: bool = False):
        self.images = self.errors = self.faces = self._known = 0
        self._every = every
        self._of_video = False
        self._rows: list[tuple[str, ...]] = []

    def add(self, name: str, faces: Faces, frame: int | None = None, time: float = 0) -> None:
        """Notes the faces of an image, or of a video's frame at `time` seconds."""
        self.images += 1
        self.faces += len(faces)
        self._of_video |= frame is not None
        place = ("", "") if frame is None else (str(frame), f"{time:.2f}")
        for number, face in enumerate(faces, start=1):
            if self._every or len(self._rows) < self.TABLE_ROWS:
                x1, y1, x2, y2 = face.box
                corner, size = f"{x1:.0f},{y1:.0f}", f"{x2 - x1:.0f} x {y2 - y1:.0f}"
                eyes = "  ".join(f"{x:.0f},{y:.0f}" for x, y in face.landmarks[:2])
                self._rows.append(
                    (name, *place, str(number), f"{face.score:.3f}", corner, size, eyes)
                )

    def add_known(self, entry: dict[str, Any]) -> None:
        """Counts what a JSON line of an earlier run says."""
        self.images += "error" not in entry
        self.errors += "error" in entry
        self.faces += len(entry.get("faces", ()))
        self._known += len(entry.get("faces", ()))

    def print(self, by: str) -> None:
        """The table, the counts and what found the faces, on standard output."""
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        # A pipe has no width to fold names into; the table takes what it needs.
        console = Console() if sys.stdout.isatty() else Console(width=10_000)
        if self._rows:
            table = Table("image")
            shown = [0, *(() if not self._of_video else (1, 2)), *range(3, 8)]
            titles = ("", "frame", "seconds", "face", "score", "left, top", "size", "eyes")
            for column in shown[1:]:
                table.add_column(titles[column], no_wrap=True)
            for row in self._rows:
                # Names are shown as they are: brackets in them are no markup.
                table.add_row(*(Text(row[column]) for column in shown))
            console.print(table)
        hidden = self.faces - self._known - len(self._rows)
        more = f" ({hidden} not listed: --all)" if hidden else ""
        failed = f", {self.errors} unreadable" if self.errors else ""
        console.print(
            f"{self.faces} face{'s' * (self.faces != 1)}{more} in "
            f"{self.images} image{'s' * (self.images != 1)}{failed}, by {by}"
        )
