"""Lines of a text file with their numbers, so that every error names its place."""

from __future__ import annotations

from pathlib import Path

from retinaface_tf.errors import DataError


class TextLines:
    """Reads a text file line by line; empty lines are skipped.

    Attributes:
        path: of the file.
        number: of the line taken last, from 1.

    Raises:
        DataError: the file cannot be read.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        try:
            text = self.path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise DataError(f"Cannot read {self.path}: {error.strerror}.") from error
        lines = enumerate(text.splitlines(), start=1)
        self._lines = [(number, line.strip()) for number, line in lines if line.strip()]
        self._place = 0

    def __bool__(self) -> bool:
        return self._place < len(self._lines)

    @property
    def number(self) -> int:
        return self._lines[self._place - 1][0] if self._place else 0

    def peek(self) -> str:
        """The next line, "" at the end."""
        return self._lines[self._place][1] if self else ""

    def take(self, what: str) -> str:
        """The next line, which is `what`.

        Raises:
            DataError: there is none.
        """
        if not self:
            raise self.error(f"the file ends where {what} should follow")
        self._place += 1
        return self._lines[self._place - 1][1]

    def take_count(self) -> int:
        """The next line as a number of faces."""
        line = self.take("a number of faces")
        if not line.isdigit():
            raise self.error(f"{line[:60]!r} is not a number of faces")
        return int(line)

    def take_numbers(self, least: int) -> list[float]:
        """The next line as at least `least` numbers."""
        line = self.take(f"a face of {least} numbers")
        numbers = parse_numbers(line)
        if numbers is None or len(numbers) < least:
            raise self.error(f"{line[:60]!r} is not a face of {least} numbers")
        return numbers

    def error(self, text: str) -> DataError:
        """An error about the line taken last."""
        return DataError(f"{self.path} line {self.number}: {text}.")


def parse_numbers(line: str) -> list[float] | None:
    """The line's numbers, None when something else is in it."""
    try:
        return [float(word) for word in line.split()]
    except ValueError:
        return None
