"""One call of the command line in a process forked from this one: quick, watched and bounded."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

# What the outermost handler says of an exception that nothing below it expected.
UNFORESEEN = ("This was not foreseen", "(the traceback: ")


@dataclass(frozen=True)
class Outcome:
    """What a call did.

    Attributes:
        code: exit status, negative for a signal.
        seconds: wall time.
        peak: most resident memory in MiB.
        hung: it was ended for its time.
        text: standard output and standard error together.
    """

    code: int
    seconds: float
    peak: float
    hung: bool
    text: str

    @property
    def fault(self) -> str | None:
        """What is wrong with it; None where it behaved."""
        if self.hung:
            return f"hang: more than {self.seconds:.0f} s"
        if "Traceback (most recent call last)" in self.text:
            return "traceback: " + self.text.strip().splitlines()[-1][:200]
        for line in self.text.splitlines():
            if any(words in line for words in UNFORESEEN):
                return "unforeseen: " + line[-200:]
        if self.code < 0:
            return f"ended by signal {-self.code}"
        return None


def call(arguments: list[str], folder: Path, *, limit: float, memory: int) -> Outcome:
    """Runs `retinaface-tf ARGUMENTS` in a folder.

    Args:
        arguments: of the command line.
        folder: the working folder.
        limit: seconds after which it is ended.
        memory: bytes of address space; more gives a MemoryError there.
    """
    log = folder / f".log-{os.getpid()}-{time.monotonic_ns()}"
    begun = time.perf_counter()
    child = os.fork()
    if child == 0:
        _run(arguments, folder, log, memory)
    hung = False
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            break
        if not hung and time.perf_counter() - begun > limit:
            hung = True
            os.killpg(child, signal.SIGKILL)
        time.sleep(0.005)
    seconds = time.perf_counter() - begun
    text = log.read_text(encoding="utf-8", errors="replace")
    log.unlink()
    return Outcome(os.waitstatus_to_exitcode(status), seconds, usage.ru_maxrss / 1024, hung, text)


def _run(arguments: list[str], folder: Path, log: Path, memory: int) -> None:
    code = 70
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        os.chdir(folder)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(output, stream)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        sys.argv = ["retinaface-tf", *arguments]
        from retinaface_tf.cli import main

        main()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
