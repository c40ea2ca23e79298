"""The images of a tar file, plain or compressed, as WebDataset and others keep them."""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar

from retinaface_tf.bulk.bulk_image import BulkImage
from retinaface_tf.errors import ImageError
from retinaface_tf.images.listing import IMAGE_SUFFIXES

# A larger member is no photo and is not read into memory.
MAX_MEMBER_BYTES = 512 * 1024**2
_TOO_LARGE = "it is larger than 512 MiB"


@dataclass(frozen=True)
class TarPart:
    """Images of one tar that follow each other.

    Attributes:
        names: of the members, as stored.
        extents: (first byte, bytes) of each member in a plain tar; () in a compressed one, which is
            read from its start and always whole.
    """

    kind: ClassVar[str] = "tar"
    path: str
    names: tuple[str, ...]
    extents: tuple[tuple[int, int], ...]

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.names)

    def images(self) -> Iterator[BulkImage]:
        """Each image's bytes.

        Raises:
            ImageError: the tar is gone.
        """
        try:
            yield from self._seek() if self.extents else self._decompress()
        except FileNotFoundError:
            raise ImageError(f"Cannot read {self.path}: there is no such file.") from None

    def _seek(self) -> Iterator[BulkImage]:
        with Path(self.path).open("rb") as file:
            for name, (start, size) in zip(self.names, self.extents):
                if size > MAX_MEMBER_BYTES:
                    yield BulkImage.packed(self.path, name, None, _TOO_LARGE)
                    continue
                file.seek(start)
                content = file.read(size)
                problem = None if len(content) == size else "the tar ends within it"
                yield BulkImage.packed(self.path, name, content, problem)

    def _decompress(self) -> Iterator[BulkImage]:
        done = 0
        try:
            with tarfile.open(self.path, "r|*") as tar:
                for member in filter(is_image, tar):
                    content = problem = None
                    if member.size > MAX_MEMBER_BYTES:
                        problem = _TOO_LARGE
                    else:
                        content = tar.extractfile(member).read()
                    # Counted before it is yielded: no image may come twice.
                    done += 1
                    yield BulkImage.packed(self.path, member.name, content, problem)
                    if done == self.count:
                        return
        except FileNotFoundError:
            raise
        except (tarfile.TarError, OSError, EOFError):
            pass
        for name in self.names[done:]:
            yield BulkImage.packed(self.path, name, None, "the tar is damaged here")


def is_image(member: tarfile.TarInfo) -> bool:
    """Whether a member is a file with an image's suffix, and not hidden."""
    name = PurePosixPath(member.name)
    return (
        member.isreg() and name.suffix.lower() in IMAGE_SUFFIXES and not name.name.startswith(".")
    )


def list_tar(path: str, rows: int) -> tuple[list[TarPart], str | None]:
    """The images of a tar in parts of at most `rows`; a compressed tar is one part.

    Reads the headers of a plain tar, and all of a compressed one.

    Returns:
        The parts, and a sentence on what is wrong where the tar is damaged; what comes before the
        damage is in the parts.

    Raises:
        ImageError: there is no such file.
    """
    names: list[str] = []
    extents: list[tuple[int, int]] = []
    problem = None
    try:
        plain = _is_plain(path)
        with tarfile.open(path, "r:" if plain else "r:*") as tar:
            try:
                for member in tar:
                    if is_image(member):
                        names.append(member.name)
                        extents.append((member.offset_data, member.size))
                    tar.members = []  # tarfile would keep every header in memory
                if plain and not _ends_well(Path(path), tar.offset):
                    problem = "it is damaged"
            except (tarfile.TarError, OSError, EOFError):
                problem = "it ends too early"
    except FileNotFoundError:
        raise ImageError(f"Cannot read {path}: there is no such file.") from None
    except (tarfile.TarError, OSError, EOFError):
        return [], f"Cannot read {path}: it is not a tar, or damaged."
    if problem:
        problem = f"Cannot read {path} to its end: {problem} behind its first {len(names)} images."
    if not plain:
        return ([TarPart(path, tuple(names), ())] if names else []), problem
    parts = [
        TarPart(path, tuple(names[i : i + rows]), tuple(extents[i : i + rows]))
        for i in range(0, len(names), rows)
    ]
    return parts, problem


def _is_plain(path: str) -> bool:
    with Path(path).open("rb") as file:
        start = file.read(6)
    return not start.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0"))


def _ends_well(path: Path, offset: int) -> bool:
    """Whether a tar ends in zeros or nothing where its reader stopped; else a header is damaged."""
    with path.open("rb") as file:
        file.seek(offset)
        return not any(file.read(tarfile.BLOCKSIZE))
