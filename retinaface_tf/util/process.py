"""Processes of our own: how many cores there are, and what a child process needs."""

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO


def available_cores() -> int:
    """Cores this process may use, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def child_environment(**changes: str) -> dict[str, str]:
    """Environment of a Python process that imports what this one does, this very package too, quietly.

    With Python's option -P, which belongs to it, nothing is imported from the current folder.

    Args:
        changes: variables to set, over those of this process.
    """
    package = str(Path(__file__).resolve().parents[2])
    paths = [package, *filter(None, sys.path)]
    return {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        **changes,
    }


def allow_open_files() -> None:
    """Lets this process open as many files and connections as the system permits."""
    with contextlib.suppress(ImportError, ValueError, OSError):  # Windows has no such limit
        import resource

        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def keep_freed_memory() -> None:
    """Freed memory stays for what comes next until `give_memory_back`, where the C library is glibc.

    Left to itself glibc asks the system for each large block anew. At most 32 MB may be kept so: the
    most that its `M_MMAP_THRESHOLD` (-3) takes; `M_TRIM_THRESHOLD` is -1.
    """
    _of_glibc("mallopt", -3, 32 << 20)
    _of_glibc("mallopt", -1, 1 << 30)


def give_memory_back() -> None:
    """Returns free memory to the system, where the C library is one that keeps it (glibc)."""
    _of_glibc("malloc_trim", 0)


def _of_glibc(name: str, *numbers: int) -> None:
    import ctypes

    with contextlib.suppress(AttributeError, OSError, TypeError):  # macOS, musl, Windows
        getattr(ctypes.CDLL(None), name)(*numbers)


@contextlib.contextmanager
def out_of_reach_of_ctrl_c() -> Iterator[None]:
    """Processes started in the block do not get the terminal's Ctrl-C: they end with this one."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def claim_stdout() -> IO[str]:
    """Standard output for our own lines alone; whatever libraries print goes to standard error."""
    own = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return own


def connection_problem(address: str, seconds: float = 3.0) -> str | None:
    """Why nothing answers at "host:port", such as "connection refused"; None where it answers."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=seconds).close()
    except (OSError, ValueError, OverflowError) as error:
        return (getattr(error, "strerror", None) or str(error)).lower()
    return None


def to_stderr(line: str) -> None:
    """Prints a line for the person at the terminal; standard output is for results."""
    print(line, file=sys.stderr, flush=True)
