"""One image of a bulk run, before detection."""

from __future__ import annotations

from typing import NamedTuple

from retinaface_tf.images.read import NamedBytes


class BulkImage(NamedTuple):
    """Where an image comes from, and its content as `RetinaFace.detect` takes it.

    Attributes:
        source: path of the tar or table it is in; None for a file of its own.
        name: path of the file, name of the member, or name or number of the row.
        content: path or encoded bytes; None if they cannot be read.
        problem: why they cannot be read, as a sentence.
    """

    source: str | None
    name: str
    content: str | NamedBytes | None
    problem: str | None = None

    @classmethod
    def packed(
        cls, source: str, name: str, content: bytes | None, problem: str | None = None
    ) -> BulkImage:
        """An image in a tar or table: its bytes, or why there are none, such as "it is empty"."""
        full_name = f"{source}/{name}"
        if problem:
            return cls(source, name, None, f"Cannot read {full_name}: {problem}.")
        return cls(source, name, NamedBytes(content, full_name))
