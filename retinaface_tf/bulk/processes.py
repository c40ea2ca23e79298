"""The engine for one machine: worker processes, each with a model of its own.

They are started as new Python programs rather than forked or spawned, so that the caller's own
script is neither copied nor imported again: this works from notebooks and from scripts without an
`if __name__ == "__main__"`.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import retinaface_tf
from retinaface_tf.bulk.results import ShardReport
from retinaface_tf.bulk.shards import Shard
from retinaface_tf.bulk.work import Job
from retinaface_tf.errors import WorkerError

# Starts in a row that end before the worker has said a word.
_STARTS = 3


def run_in_processes(job: Job, shards: list[Shard], *, workers: int) -> Iterator[ShardReport]:
    """Searches shards in processes of this machine.

    Args:
        job: of the run.
        shards: what is to be done.
        workers: how many processes.

    Yields:
        The report of each shard, in the order in which they are done.

    Raises:
        RetinaFaceError: a reason of a worker's to stop the run.
        WorkerError: workers die again and again.
    """
    todo: queue.SimpleQueue[Shard] = queue.SimpleQueue()
    for shard in shards:
        todo.put(shard)
    done: queue.SimpleQueue[ShardReport | Exception] = queue.SimpleQueue()
    keepers = [_Keeper(job, todo, done) for _ in range(min(workers, len(shards)))]
    try:
        for keeper in keepers:
            keeper.start()
        for _ in shards:
            report = done.get()
            if isinstance(report, Exception):
                raise report
            yield report
    finally:
        for keeper in keepers:
            keeper.stop()


class _Keeper(threading.Thread):
    """Gives shards to one process, and starts another where it dies."""

    def __init__(self, job: Job, todo: queue.SimpleQueue, done: queue.SimpleQueue):
        super().__init__(daemon=True)
        self._job, self._todo, self._done = job, todo, done
        self._process: subprocess.Popen | None = None
        self._lock = threading.Lock()
        self._stopped = False

    def run(self) -> None:
        try:
            with tempfile.TemporaryFile() as self._errors:
                while True:
                    try:
                        shard = self._todo.get_nowait()
                    except queue.Empty:
                        return
                    self._done.put(self._search(shard))
        except Exception as error:
            self._done.put(error)
        finally:
            self.stop()

    def stop(self) -> None:
        """Ends the process; what it is at is done again another time."""
        with self._lock:
            self._stopped = True
            if self._process is not None:
                _end(self._process)
                self._process = None

    def _search(self, shard: Shard) -> ShardReport:
        while True:
            if self._process is None:
                self._start()
            answer = self._ask(shard.to_json())
            if answer is None:
                self._bury()
            elif "failure" in answer:
                raise WorkerError(answer["failure"])
            else:
                return ShardReport(**answer)

    def _start(self) -> None:
        for _ in range(_STARTS):
            with self._lock:
                if self._stopped:
                    raise WorkerError("The run was stopped.")
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "retinaface_tf.bulk.process_worker"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._errors,
                    text=True,
                    encoding="utf-8",
                    env=_environment(),
                )
            if self._ask(self._job.to_json()) is not None:
                return
            self._bury()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines() or ["no message"]
        raise WorkerError(f"Worker processes do not start: {lines[-1]}")

    def _ask(self, line: str) -> dict | None:
        """The answer of the process; None where it died."""
        process = self._process
        if process is None:  # stopped from outside
            raise WorkerError("The run was stopped.")
        try:
            process.stdin.write(line + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except (OSError, ValueError):
            return None
        return json.loads(answer) if answer.endswith("\n") else None

    def _bury(self) -> None:
        with self._lock:
            if self._process is not None:
                _end(self._process)
                self._process = None
            if self._stopped:
                raise WorkerError("The run was stopped.")


def _end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        try:
            pipe.close()
        except OSError:
            continue


def _environment() -> dict[str, str]:
    package = str(Path(retinaface_tf.__file__).resolve().parent.parent)
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    defaults = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
    return {**defaults, **os.environ, "PYTHONPATH": os.pathsep.join(paths)}
