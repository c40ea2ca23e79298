"""Text files as people have them, and their lines with numbers, so that every error names its place."""

import re
from pathlib import Path

from retinaface_tf.errors import DataError, RetinaFaceError
from retinaface_tf.util.bounds import LARGEST, read_whole

# What code that takes JSON apart raises where it has another layout than expected.
MALFORMED = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)

# Marks at the beginning of a file; the longer ones first, since UTF-32's begins with UTF-16's.
_MARKS = {
    b"\xef\xbb\xbf": "utf-8",
    b"\xff\xfe\0\0": "utf-32-le",
    b"\0\0\xfe\xff": "utf-32-be",
    b"\xff\xfe": "utf-16-le",
    b"\xfe\xff": "utf-16-be",
}
# Not `str.splitlines`: names of files may hold its rarer separators, such as U+2028.
_LINE_END = re.compile(r"\r\n|\n|\r")


def read_text(
    path: Path | str, *, limit: int = LARGEST, error: type[RetinaFaceError] = DataError
) -> str:
    """The text of a file in UTF-8, or in the encoding that the byte order mark at its beginning names.

    Bytes that are not UTF-8 stay what they are (surrogate escapes), as in names of files.

    Raises:
        DataError: or `error`: the file cannot be read, has more than `limit` bytes, or is not what
            its mark says.
    """
    content = read_whole(path, limit=limit, error=error)
    mark = next((mark for mark in _MARKS if content.startswith(mark)), None)
    if mark is None:
        return content.decode("utf-8", "surrogateescape")
    codec = _MARKS[mark]
    try:
        return content.removeprefix(mark).decode(
            codec, "surrogateescape" if codec == "utf-8" else "strict"
        )
    except UnicodeDecodeError:
        raise error(
            f"Cannot read {path}: it begins as {codec.upper()} and is damaged; save it as UTF-8."
        ) from None


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
        lines = enumerate(_LINE_END.split(read_text(path)), start=1)
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
        if not (line.isascii() and line.isdigit() and len(line) < 10):
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
