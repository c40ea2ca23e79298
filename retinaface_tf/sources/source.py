"""What every source of trained weights offers; a new kind of source is one class like this."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol, get_args

from retinaface_tf.config import Precision
from retinaface_tf.errors import WeightsError
from retinaface_tf.util.files import reason_of, sha256_of

# What a file of a network is for: weights to train on or to convert, or what a runtime reads.
KINDS = ("weights", "tflite", "onnx")
PRECISIONS: tuple[str, ...] = get_args(Precision)


class Fetched(NamedTuple):
    """What a source hands over.

    Attributes:
        path: of the file, in any format that `weights.convert` knows by its contents.
        licence: text that is kept beside the converted weights; empty where it says none.
    """

    path: Path
    licence: str


def require_known(path: Path, digests: Mapping[str, str]) -> str:
    """What a file is that someone brought.

    Args:
        path: of it.
        digests: {what it may be: sha256 of that, or its beginning}.

    Returns:
        The key of `digests` that it is.

    Raises:
        WeightsError: it cannot be read, or is none of them.
    """
    try:
        found = sha256_of(path)
    except OSError as failure:
        raise WeightsError(f"{path} cannot be read: {reason_of(failure)}.") from None
    for what, digest in digests.items():
        if found.startswith(digest):
            return what
    known = " or ".join(f"{what} (sha256 {digest})" for what, digest in digests.items())
    raise WeightsError(f"{path} is not {known}: its sha256 is {found}.")


class WeightsSource(Protocol):
    """Trained weights of one network.

    It knows nothing of networks: it hands over files, `weights.choose_file` converts and caches them.

    Attributes:
        origin: where the weights are, in a few words.
        licence: of the weights, as an SPDX identifier, with what else must be said.
        digest: letters that change when the trained data does; they name what is cached.
        how_large: what is fetched, in MB, as a person reads it: "109.5", "~48", or "" where it is not known.
    """

    @property
    def origin(self) -> str: ...

    @property
    def licence(self) -> str: ...

    @property
    def digest(self) -> str: ...

    @property
    def how_large(self) -> str: ...

    def describe(self) -> list[str]:
        """Lines for a person, before anything is fetched: origin and licence."""
        ...

    def file(self, kind: str, precision: str = "float32") -> Path | None:
        """A file that is here already and can be used as it is; None where there is none.

        Args:
            kind: of `KINDS`.
            precision: of `PRECISIONS`.

        Raises:
            WeightsError: there should be one, and it is missing.
        """
        ...

    def fetch(
        self, folder: Path, notify: Callable[[str], None], given: Path | None = None
    ) -> Fetched:
        """Brings the trained data into an empty folder and checks it; nothing in it is executed.

        Args:
            folder: empty.
            notify: is given a line on what is being done.
            given: the file that would be fetched, which someone brought.

        Raises:
            WeightsError: it cannot be reached, or its bytes are not the known ones.
        """
        ...

    def figures(self) -> dict[str, str]:
        """{what: value} that was measured with these weights and stands beside them."""
        ...
