"""What a person sees: sentences instead of tracebacks, no framework's notes, any file name printable."""

import _thread
import contextlib
import errno
import faulthandler
import os
import sys
import threading
from collections.abc import Iterator

from retinaface_tf.errors import RetinaFaceError
from retinaface_tf.util.extras import missing_extra

STOPPED = 130  # the exit code of a program that Ctrl-C ended: 128 + SIGINT
DEBUG = "--debug"


def set_up_streams(debug: bool) -> None:
    """Prepares standard output and error.

    Names that the terminal's encoding has no letters for are escaped. TensorFlow, LiteRT and FFmpeg
    write notes from C++ to the process's standard error; unless `debug`, they lead nowhere, while
    Python's own standard error stays where it was. A stream that is closed leads nowhere: the next file
    opened would else take its place.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(nowhere, "w" if number else "r", encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if debug:
        return
    sys.stderr = os.fdopen(os.dup(2), "w", 1, sys.stderr.encoding, "backslashreplace")
    # A crash in C++ still says where it was.
    faulthandler.enable(sys.stderr)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def _keep_interrupting(problem) -> None:
    """What Python would print and forget: for a Ctrl-C that came while it freed memory, to come again."""
    if problem.exc_type is KeyboardInterrupt:
        threading.Timer(0.01, _thread.interrupt_main).start()  # once this call is over
    else:
        sys.__unraisablehook__(problem)


@contextlib.contextmanager
def sentences(debug: bool) -> Iterator[None]:
    """Turns whatever ends a command into one sentence on standard error and an exit code.

    Args:
        debug: let what was not foreseen through, with its traceback.
    """
    sys.unraisablehook = _keep_interrupting
    try:
        yield
    except RetinaFaceError as error:
        _leave(str(error))
    except (KeyboardInterrupt, SystemExit) as end:
        # Typer turns the one into the other.
        if isinstance(end, SystemExit) and end.code != STOPPED:
            raise
        print("stopped; what was finished is kept.", file=sys.stderr)
        sys.exit(STOPPED)
    except ModuleNotFoundError as error:
        if debug:
            raise
        _leave(str(missing_extra(error) or _unforeseen(error)))
    except BrokenPipeError:
        # Whoever read our output has left; Python would complain of it once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)
    except Exception as error:
        if debug:
            raise
        _leave(_unforeseen(error))


def _unforeseen(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return (
            "There is not enough memory; give fewer or smaller images, a smaller --size or "
            "--batch-size."
        )
    said = " ".join(str(error).split())
    full = os.strerror(errno.ENOSPC)
    if full in said and not isinstance(error, OSError):  # as TensorFlow says it
        return f"{full} for {said.partition('; ' + full)[0].rpartition(' ')[2]}; free some space."
    if isinstance(error, OSError) and error.errno is not None:
        place = f"{error.filename}: " if error.filename else ""
        hint = "; free some space" if error.errno == errno.ENOSPC else ""
        return f"{place}{os.strerror(error.errno)}{hint} (the traceback: {DEBUG})."
    return (
        f"{type(error).__name__}{f': {said}' if said else ''}. This was not foreseen: run the "
        f"command with {DEBUG} and report what it prints."
    )


def _leave(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    try:
        sys.stdout.flush()
    except OSError:  # Python would try once more, and complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(1)
