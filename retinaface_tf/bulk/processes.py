"""The engine for one machine: worker processes, each with a model of its own.

They are new Python programs, not forked or spawned, so that the caller's script is not imported
again: this works from notebooks and from scripts without an `if __name__ == "__main__"`.
"""

import contextlib
import json
import os
import pickle
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator

from retinaface_tf.bulk.results import ShardReport
from retinaface_tf.bulk.shards import Shard
from retinaface_tf.bulk.worker import Job
from retinaface_tf.errors import WorkerError
from retinaface_tf.util.process import child_environment

# A process that ends this often before its first answer is given up.
_STARTS = 3


def run_in_processes(job: Job, shards: list[Shard], *, workers: int) -> Iterator[ShardReport]:
    """Detects the faces of shards in processes of this machine.

    Yields:
        The report of each shard, in the order in which they end.

    Raises:
        WorkerError: a worker gave a reason to stop the run, or does not start.
    """
    todo: queue.SimpleQueue[Shard] = queue.SimpleQueue()
    for shard in shards:
        todo.put(shard)
    done: queue.SimpleQueue[ShardReport | Exception] = queue.SimpleQueue()
    threads = [_WorkerThread(job, todo, done) for _ in range(min(workers, len(shards)))]
    try:
        for thread in threads:
            thread.start()
        for _ in shards:
            report = done.get()
            if isinstance(report, Exception):
                raise report
            yield report
    finally:
        for thread in threads:
            thread.stop()


class _WorkerThread(threading.Thread):
    """Gives shards to one process, and starts another when it crashes."""

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
                    self._done.put(self._detect(shard))
        except Exception as error:
            self._done.put(error)
        finally:
            self.stop()

    def stop(self) -> None:
        """Kills the process; its shard is left to another run."""
        with self._lock:
            self._stopped = True
            self._kill()

    def _detect(self, shard: Shard) -> ShardReport:
        while True:
            if self._process is None:
                self._start()
            answer = self._ask(shard)
            if answer is None:
                self._record_crash()
            elif "failure" in answer:
                raise WorkerError(answer["failure"])
            else:
                return ShardReport(**answer)

    def _start(self) -> None:
        growth = os.environ.get("TF_FORCE_GPU_ALLOW_GROWTH", "true")
        for _ in range(_STARTS):
            with self._lock:
                self._require_running()
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "retinaface_tf.bulk.process_worker"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._errors,
                    env=child_environment(TF_FORCE_GPU_ALLOW_GROWTH=growth),
                )
            if self._ask(self._job) is not None:
                return
            self._record_crash()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines() or ["no message"]
        raise WorkerError(f"Worker processes do not start: {lines[-1]}")

    def _ask(self, message: Job | Shard) -> dict | None:
        """The answer of the process; None where it crashed."""
        process = self._process
        if process is None:
            self._require_running()
        try:
            pickle.dump(message, process.stdin)
            process.stdin.flush()
            answer = process.stdout.readline()
        except (OSError, ValueError):
            return None
        return json.loads(answer) if answer.endswith(b"\n") else None

    def _record_crash(self) -> None:
        with self._lock:
            self._kill()
            self._require_running()

    def _require_running(self) -> None:
        if self._stopped:
            raise WorkerError("The run was stopped.")

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()
