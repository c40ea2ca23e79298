"""The layout that WIDER FACE's and FDDB's lists share: a name, a count, a line of numbers a face."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from retinaface_tf.util.text_lines import TextLines, parse_numbers


class ListedImage(NamedTuple):
    """One image of a list.

    Attributes:
        rows: one list of numbers a face.
        lines: int [1 + N], the number of the name's line and of each face's.
    """

    name: str
    rows: list[list[float]]
    lines: list[int]

    def columns(self, first: int, last: int) -> np.ndarray:
        """float64 [N, last - first]: these numbers of each face."""
        return np.array([row[first:last] for row in self.rows], float).reshape(-1, last - first)


def read_face_list(path: Path | str, least: int) -> Iterator[ListedImage]:
    """The images of a list in its order.

    An image without faces may carry one line of numbers all the same, as in WIDER FACE's lists; it
    is read as no face.

    Args:
        least: numbers that each face has at least.

    Raises:
        DataError: the file cannot be read, or a line is not what should stand there.
    """
    lines = TextLines(path)
    while lines:
        name = lines.take("a file name")
        if len(parse_numbers(name) or ()) > 1:
            raise lines.error(f"{name[:60]!r} is not a file name")
        rows, numbers = [], [lines.number]
        count = lines.take_count()
        for _ in range(count):
            rows.append(lines.take_numbers(least))
            numbers.append(lines.number)
        if not count and len(parse_numbers(lines.peek()) or ()) >= max(least, 2):
            lines.take("zeros")
        yield ListedImage(name, rows, numbers)


def number_line(numbers: Iterable[float]) -> str:
    """One line of numbers, whole ones without a point."""
    return " ".join(f"{number:.15g}" for number in numbers) + "\n"
