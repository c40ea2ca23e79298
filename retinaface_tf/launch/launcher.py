"""Starts all workers of a run, shows what they say, and stops all when one ends before its time."""

from __future__ import annotations

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
from retinaface_tf.launch.command import WorkerEnvironment, local_environment, start_command
from retinaface_tf.launch.hosts import Worker
from retinaface_tf.launch.supervise import PATIENCE

# ssh's own failures, such as a host that does not answer.
_SSH_FAILED = 255
# A worker that stops with a sentence of ours would stop with it again.
_REFUSAL = "error: "


@dataclass(eq=False)
class _Process:
    """A worker as it runs; its last lines tell why it ended."""

    worker: Worker
    process: subprocess.Popen
    reader: threading.Thread | None = None
    last: deque[str] = field(default_factory=lambda: deque(maxlen=20))

    @property
    def refusal(self) -> str | None:
        """The sentence with which it refused to go on, if it did."""
        lines = [line for line in self.last if line.startswith(_REFUSAL)]
        return lines[-1].removeprefix(_REFUSAL) if lines else None


def launch(
    workers: Sequence[Worker],
    command: Sequence[str],
    surroundings: WorkerEnvironment,
    *,
    restarts: int = 0,
    write: Callable[[str], None] = print,
) -> None:
    """Runs the command once for every worker until all of them have ended well.

    Args:
        workers: who takes part.
        command: program and arguments, the same everywhere; `TF_CONFIG` tells a worker who it is.
        surroundings: of the workers.
        restarts: how often all are started again after one ended badly.
        write: takes each line, of workers with their number before it.

    Raises:
        LaunchError: a worker ended badly and there are no restarts left, or it cannot help.
        ConfigError: a program is not there.
    """
    for attempt in range(restarts + 1):
        running: list[_Process] = []
        try:
            for worker in workers:
                running.append(_start(workers, worker.rank, command, surroundings, write))
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
    """Ends all that still run: asks, by the end of their input, and kills after some seconds."""
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


def _start(workers, rank, command, surroundings, write) -> _Process:
    worker = workers[rank]
    line = start_command(workers, rank, command, surroundings)
    try:
        process = subprocess.Popen(
            line,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd=surroundings.folder if worker.local else None,
            env=local_environment(workers, rank, surroundings.environment)
            if worker.local
            else None,
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
            write(f"[{rank}] {text}")

    entry.reader = threading.Thread(target=show, daemon=True)
    entry.reader.start()
    return entry


def _first_failure(running: Sequence[_Process]) -> _Process | None:
    """The worker that ended badly first, or None when all ended well."""
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
    refusal = ended.refusal
    if refusal:
        return f"{name} refused: {refusal}", False
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
