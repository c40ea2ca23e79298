"""The file of `detect --json`: opened, written line by line, gone on with after a stop."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

from retinaface_tf.errors import ConfigError, RetinaFaceError
from retinaface_tf.util.bounds import LARGEST
from retinaface_tf.util.files import cannot_write, stream_of
from retinaface_tf.util.text_lines import MALFORMED


class JsonLines:
    """A writer of one JSON object a line, to a file, a pipe or device, or "-", standard output.

    Lines are in the file as soon as they are written, so an interrupted run keeps them.

    Args:
        target: the file's name, or "-".
        inputs: files that are read.
        resume: keep the whole lines that are there, see `kept`, and go on behind them.
        overwrite: begin anew where the file holds something.

    Attributes:
        kept: the entries that were there already, in their order.

    Raises:
        ConfigError: the file is one that is read, holds something else, or holds lines and neither
            `resume` nor `overwrite` was asked for.
        RetinaFaceError: the file cannot be written.
    """

    def __init__(
        self,
        target: str,
        inputs: Iterable[Path] = (),
        *,
        resume: bool = False,
        overwrite: bool = False,
    ):
        self.kept: list[dict] = []
        self._ends: list[int] = []
        self._path = None if target == "-" else Path(target)
        self._stream: TextIO = sys.stdout
        if self._path is None:
            return
        path = self._path
        try:
            if (stream := stream_of(path)) is not None:
                self._stream = os.fdopen(os.dup(stream), "w", encoding="utf-8")
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists() or not stat.S_ISREG(path.stat().st_mode):
                self._stream = path.open("w", encoding="utf-8")
                return
            if any(source.exists() and path.samefile(source) for source in inputs):
                raise ConfigError(f"{path} is one of the inputs; give --json another name.")
            if resume:
                self._read_whole_lines(path)
            elif path.stat().st_size and not overwrite:
                raise ConfigError(
                    f"{path} is there already: --resume goes on with it, --overwrite starts again; "
                    "or give --json another name."
                )
            self._stream = path.open("a" if resume else "w", encoding="utf-8")
            self.keep(len(self.kept))
        except OSError as error:
            raise RetinaFaceError(cannot_write(path, error)) from None

    def _read_whole_lines(self, path: Path) -> None:
        with path.open("rb") as file:
            lines = iter(lambda: file.readline(LARGEST), b"")
            for number, line in enumerate(lines, start=1):
                if not line.endswith(b"\n") and len(line) < LARGEST:
                    break  # a stopped run leaves at most a piece of its last line
                try:
                    entry = json.loads(line)
                    _ = entry["image"], "error" in entry or len(entry["faces"])
                except MALFORMED:
                    raise ConfigError(
                        f"{path} line {number} is not one of `detect --json`; give --json another "
                        "name."
                    ) from None
                self.kept.append(entry)
                self._ends.append(file.tell())

    @property
    def resumable(self) -> bool:
        """Whether a later run can go on with what was written."""
        return self._path is not None and self._path.is_file()

    def keep(self, count: int) -> None:
        """Keeps the first `count` entries that were there; only before anything is written."""
        del self.kept[count:], self._ends[count:]
        if self._path is not None and self._stream.seekable():
            self._stream.truncate(self._ends[-1] if self._ends else 0)

    def __enter__(self) -> JsonLines:
        return self

    def write(self, entry: dict) -> None:
        """Appends a line and hands it to the system."""
        text = json.dumps(entry, ensure_ascii=False)
        try:
            text.encode()
        except UnicodeEncodeError:  # a file's name that is no UTF-8
            text = json.dumps(entry)
        try:
            self._stream.write(text + "\n")
            self._stream.flush()
        except BrokenPipeError:
            raise
        except OSError as failure:
            place = self._path or "standard output"
            raise RetinaFaceError(cannot_write(place, failure)) from None

    def __exit__(self, *_) -> None:
        if self._path is not None:
            with contextlib.suppress(OSError):  # a line that could not be written, and was said
                self._stream.close()
