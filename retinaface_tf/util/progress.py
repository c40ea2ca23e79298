"""Progress bars of long work, on stderr, so that the output can be piped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

# track("what", total) is a context that gives a function to call with the number done since.
Track = Callable[[str, int], AbstractContextManager[Callable[..., object]]]


def progress_bar(*columns: ProgressColumn, **options) -> Progress:
    """What is done, out of how much, the time it took and the time left.

    Args:
        columns: shown after these.
        options: of `rich.progress.Progress`.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        *columns,
        console=Console(stderr=True),
        **options,
    )


def choose_track(quiet: bool) -> Track:
    """`no_progress` or `rich_progress`."""
    return no_progress if quiet else rich_progress


def no_progress(what: str, total: int) -> AbstractContextManager[Callable[..., object]]:
    """Shows nothing."""
    return nullcontext(lambda done, status="": None)


@contextmanager
def rich_progress(what: str, total: int) -> Iterator[Callable[..., object]]:
    """A bar with the time left; the given function takes the number done since, and a status line."""
    from rich.progress import TextColumn

    with progress_bar(TextColumn("{task.fields[status]}")) as bar:
        task = bar.add_task(what, total=total, status="")

        def advance(done: int, status: str = "") -> None:
            bar.update(task, advance=done, **({"status": status} if status else {}))

        yield advance


@contextmanager
def byte_progress(what: str, total: int | None, done: int = 0) -> Iterator[Callable[[int], None]]:
    """A bar of bytes with the speed and the time left; the function takes the number of new bytes.

    Args:
        what: is transferred.
        total: bytes; None where that is not known.
        done: bytes that were there before.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as bar:
        task = bar.add_task(what, total=total, completed=done)
        yield lambda new: bar.update(task, advance=new)
