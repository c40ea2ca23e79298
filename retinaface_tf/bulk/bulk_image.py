"""One image of a bulk run, before it is searched."""

from __future__ import annotations

from typing import NamedTuple

from retinaface_tf.images.read import NamedBytes


class BulkImage(NamedTuple):
    """Where an image comes from, and what `RetinaFace.detect` takes for it.

    Attributes:
        source: path of the tar or table it lies in; None for a file of its own.
        name: path of the file, name of the member, or name or number of the row.
        content: path or encoded bytes; None where there are none.
        problem: why there are none, as a sentence.
    """

    source: str | None
    name: str
    content: str | NamedBytes | None
    problem: str | None = None
