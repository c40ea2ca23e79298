"""Progress on stderr, so that a run's output can be piped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from retinaface_tf.util.progress import progress_bar

# track("what", total) is a context that gives a function to call with the number done since.
Track = Callable[[str, int], AbstractContextManager[Callable[[int], object]]]


def choose_track(quiet: bool) -> Track:
    """`no_progress` or `rich_progress`."""
    return no_progress if quiet else rich_progress


def no_progress(what: str, total: int) -> AbstractContextManager[Callable[[int], object]]:
    """Shows nothing."""
    return nullcontext(lambda done, status="": None)


@contextmanager
def rich_progress(what: str, total: int) -> Iterator[Callable[[int], object]]:
    """A bar with the time left; a `status` attribute set on the given function is shown too."""
    from rich.progress import TextColumn

    bar = progress_bar(TextColumn("{task.fields[status]}"))
    with bar:
        task = bar.add_task(what, total=total, status="")

        def advance(done: int, status: str = "") -> None:
            bar.update(task, advance=done, **({"status": status} if status else {}))

        yield advance
