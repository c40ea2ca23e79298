"""Starts all workers of a run, shows their output, and stops all when one ends early."""

import contextlib
import os
import queue
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from retinaface_tf.errors import ConfigError, LaunchError
from retinaface_tf.launch.command import WorkerEnvironment
from retinaface_tf.launch.hosts import Worker
from retinaface_tf.launch.supervise import PATIENCE

# ssh's own failures, such as a host that does not answer.
_SSH_FAILED = 255
# A worker that ended with a message of this package would end with it again.
_ERROR = "error: "


@dataclass(eq=False)
class _Process:
    """A running worker; its last lines say why it ended."""

    worker: Worker
    process: subprocess.Popen
    reader: threading.Thread | None = None
    last: deque[str] = field(default_factory=lambda: deque(maxlen=20))


def launch(
    workers: Sequence[Worker],
    command: Sequence[str],
    environment: WorkerEnvironment,
    *,
    restarts: int = 0,
    write: Callable[[str], None] = print,
) -> None:
    """Runs the command once for every worker until all of them have ended well.

    Args:
        command: program and arguments, the same everywhere; `TF_CONFIG` has a worker's rank.
        restarts: how often all are started again after one failed.
        write: called with each line; lines of workers begin with their rank.

    Raises:
        LaunchError: a worker failed and no restart is left, or none would help.
        ConfigError: a program is not there.
    """
    for attempt in range(restarts + 1):
        running: list[_Process] = []
        try:
            for worker in workers:
                running.append(_start(workers, worker, command, environment, write))
            ended = _first_failure(running)
        finally:
            # Also when this process is interrupted.
            stop(running)
        if ended is None:
            return
        reason, again = _why(ended)
        if not again:
            raise LaunchError(reason)
        if attempt == restarts:
            raise LaunchError(
                f"{reason} Start the same command again to go on from the last checkpoint, or let "
                "--restarts do so."
            )
        write(f"{reason} The others were stopped; starting again ({attempt + 1} of {restarts})")


def stop(running: Sequence[_Process]) -> None:
    """Ends all that still run: closes their input, which asks them to stop, and kills them later."""
    for entry in running:
        with contextlib.suppress(OSError):
            entry.process.stdin.close()
    deadline = time.monotonic() + 2 * PATIENCE
    for entry in running:
        try:
            entry.process.wait(max(deadline - time.monotonic(), 0.01))
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(entry.process.pid, signal.SIGKILL)
            entry.process.wait()
    for entry in running:
        entry.reader.join(timeout=1)


def _start(
    workers: Sequence[Worker],
    worker: Worker,
    command: Sequence[str],
    environment: WorkerEnvironment,
    write: Callable[[str], None],
) -> _Process:
    line = environment.start_command(workers, worker.rank, command)
    try:
        process = subprocess.Popen(
            line,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd=environment.folder if worker.local else None,
            env=environment.local_variables(workers, worker.rank) if worker.local else None,
            # Ctrl-C is for the launcher; it stops the workers in order.
            start_new_session=True,
        )
    except OSError as error:
        raise ConfigError(f"Cannot start {worker}: {line[0]}: {error.strerror}.") from None
    entry = _Process(worker, process)

    def show() -> None:
        for text in process.stdout:
            text = text.rstrip("\n").rpartition("\r")[2]
            entry.last.append(text)
            write(f"[{worker.rank}] {text}")

    entry.reader = threading.Thread(target=show, daemon=True)
    entry.reader.start()
    return entry


def _first_failure(running: Sequence[_Process]) -> _Process | None:
    """The worker that failed first, or None when all ended well."""
    ends: queue.Queue[_Process] = queue.Queue()

    def watch(entry: _Process) -> None:
        entry.process.wait()
        ends.put(entry)

    for entry in running:
        threading.Thread(target=watch, args=(entry,), daemon=True).start()
    for _ in running:
        entry = ends.get()
        if entry.process.returncode:
            entry.reader.join(timeout=1)
            return entry
    return None


def _why(ended: _Process) -> tuple[str, bool]:
    """A sentence on why a worker ended, and whether starting again may help."""
    worker, code = ended.worker, ended.process.returncode
    name = f"W{str(worker)[1:]}"
    for line in reversed(ended.last):
        if line.startswith(_ERROR):
            return f"{name} refused: {line.removeprefix(_ERROR)}", False
    last = next((line for line in reversed(ended.last) if line.strip()), "it said nothing")
    if code == _SSH_FAILED and not worker.local:
        return (
            f"{name} could not be reached or was lost ({last}); see that "
            f"`ssh {worker.host} true` works without a password."
        ), True
    number = -code if code < 0 else code - 128
    if number in set(signal.Signals):
        return f"{name} was killed by {signal.Signals(number).name}.", True
    return f"{name} ended with code {code} ({last}).", True
