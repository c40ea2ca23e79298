"""Dynamic batching: requests of several callers joined along the batch dimension.

Parameters carry TF-Serving's names and are read from TF-Serving's file format, so one file drives
both servers.
"""

import asyncio
import re
import time
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Executor
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from retinaface_tf.errors import ConfigError
from retinaface_tf.serving.request_error import RequestError
from retinaface_tf.util.options import check_range

Arrays = dict[str, np.ndarray]
# `name { value: number }` or `name: number`.
_ENTRY = re.compile(r"\s*(\w+)\s*(?:\{\s*value\s*:\s*(\S+?)\s*\}|:\s*(\S+))")
# TF-Serving uses these for logs and GPU pools; they have no effect here.
_IGNORED = ("thread_pool_name", "pad_variable_length_inputs")


@dataclass(frozen=True, kw_only=True)
class BatchingParameters:
    """How requests are joined; names and meanings are TF-Serving's.

    Attributes:
        max_batch_size: rows of a batch; a request with more is refused. 0 joins nothing: each
            request runs by itself, whatever its size.
        batch_timeout_micros: how long a batch that is not full waits for more, while a thread is
            free.
        max_enqueued_batches: batches that may wait; beyond, requests are refused
            (RESOURCE_EXHAUSTED) instead of filling memory.
        num_batch_threads: batches that run at the same time.
        allowed_batch_sizes: batches are filled up to the next of these, ascending, the last equal
            to `max_batch_size`; empty allows all.
    """

    max_batch_size: int = 0
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 256
    num_batch_threads: int = 4
    allowed_batch_sizes: tuple[int, ...] = ()

    def __post_init__(self):
        check_range(self, "", "max_batch_size batch_timeout_micros", 0)
        check_range(self, "", "max_enqueued_batches num_batch_threads", 1)
        sizes = self.allowed_batch_sizes
        if sizes and (list(sizes) != sorted(set(sizes)) or sizes[-1] != self.max_batch_size):
            raise ConfigError(
                f"allowed_batch_sizes {list(sizes)} must ascend and end with max_batch_size "
                f"{self.max_batch_size}."
            )

    def padded(self, rows: int) -> int:
        """Rows that a batch is filled up to."""
        return next((size for size in self.allowed_batch_sizes if size >= rows), rows)


def read_batching_file(path: str | Path) -> BatchingParameters:
    """Parameters from a `batching_parameters.txt` of TF-Serving.

    Lines such as `max_batch_size { value: 32 }` and, repeated, `allowed_batch_sizes: 8`.

    Raises:
        ConfigError: the file cannot be read, or a line is not understood.
    """
    path = Path(path)
    try:
        text = re.sub(r"#.*", "", path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Cannot read the batching file {path}: {error}.") from None
    known = [field.name for field in fields(BatchingParameters)]
    entries = _ENTRY.findall(text)
    unknown = _ENTRY.sub("", text).split()
    unknown += [name for name, *_ in entries if name not in (*known, *_IGNORED)]
    if unknown:
        raise ConfigError(
            f"{path}: {unknown[0]!r} is not understood; known are {', '.join(known)}."
        )
    values: dict[str, Any] = {"max_batch_size": 1000, "allowed_batch_sizes": ()}
    for name, *number in entries:
        if name in _IGNORED:
            continue
        try:
            value = int("".join(number))
        except ValueError:
            raise ConfigError(f"{path}: {name} must be a whole number.") from None
        values[name] = (*values[name], value) if name == "allowed_batch_sizes" else value
    return BatchingParameters(**values)


@dataclass(eq=False)
class _Task:
    inputs: Arrays
    rows: int
    answer: asyncio.Future
    arrived: float


@dataclass(eq=False)
class _Batch:
    key: Hashable
    tasks: list[_Task] = field(default_factory=list)
    rows: int = 0
    due: bool = False


class Batcher:
    """Joins tasks of one key, runs the batches in threads, gives each task its rows back.

    Args:
        run: called in a thread with a key and the joined inputs; returns outputs whose first
            dimension is that of the inputs.
        executor: with at least `num_batch_threads` threads.
        on_batch: called after each batch: rows, seconds its first task waited, seconds it ran.
    """

    def __init__(
        self,
        run: Callable[[Hashable, Arrays], Arrays],
        parameters: BatchingParameters,
        executor: Executor,
        on_batch: Callable[[int, float, float], None] = lambda *_: None,
    ):
        self._run, self._executor, self._on_batch = run, executor, on_batch
        self.parameters = parameters
        self._waiting: deque[_Batch] = deque()
        self._open: dict[Hashable, _Batch] = {}
        self._running: set[asyncio.Task] = set()

    @property
    def queued_rows(self) -> int:
        """Rows that wait for a thread."""
        return sum(batch.rows for batch in self._waiting)

    async def submit(self, key: Hashable, inputs: Arrays) -> Arrays:
        """The answer for one request.

        Args:
            key: requests of different keys are never joined.
            inputs: arrays that share their first dimension; of one key, all others too.

        Raises:
            RequestError: INVALID_ARGUMENT for more rows than a batch holds, RESOURCE_EXHAUSTED when
                too many batches wait already.
        """
        rows = len(next(iter(inputs.values())))
        limit = self.parameters.max_batch_size
        if limit and rows > limit:
            raise RequestError(
                f"A request of {rows} images is larger than the server's max_batch_size {limit}; "
                "send fewer at once."
            )
        answer = asyncio.get_running_loop().create_future()
        task = _Task(inputs, rows, answer, time.monotonic())
        self._place(key, task)
        self._dispatch()
        return await task.answer

    async def drain(self) -> None:
        """Returns when everything submitted has been answered."""
        while self._waiting or self._running:
            for batch in self._waiting:
                batch.due = True
            self._dispatch()
            await asyncio.wait(self._running or [asyncio.ensure_future(asyncio.sleep(0.01))])

    def _place(self, key: Hashable, task: _Task) -> None:
        limit = self.parameters.max_batch_size
        batch = self._open.get(key)
        if batch is None or batch.rows + task.rows > limit:
            if len(self._waiting) >= self.parameters.max_enqueued_batches:
                raise RequestError(
                    f"The server's queue is full ({len(self._waiting)} batches wait); try again "
                    "later.",
                    "RESOURCE_EXHAUSTED",
                )
            if batch is not None:
                self._close(batch)
            batch = _Batch(key)
            self._waiting.append(batch)
            if limit:
                self._open[key] = batch
            delay = self.parameters.batch_timeout_micros / 1e6
            if limit and delay:
                asyncio.get_running_loop().call_later(delay, self._make_due, batch)
            else:
                batch.due = True
        batch.tasks.append(task)
        batch.rows += task.rows
        if limit and batch.rows >= limit:
            self._close(batch)

    def _close(self, batch: _Batch) -> None:
        batch.due = True
        if self._open.get(batch.key) is batch:
            del self._open[batch.key]

    def _make_due(self, batch: _Batch) -> None:
        batch.due = True
        self._dispatch()

    def _dispatch(self) -> None:
        """Starts due batches, oldest first, while threads are free; the others stay open."""
        while len(self._running) < self.parameters.num_batch_threads:
            batch = next((b for b in self._waiting if b.due), None)
            if batch is None:
                return
            self._waiting.remove(batch)
            self._close(batch)
            # Requests whose caller has hung up or run out of time are dropped.
            batch.tasks = [task for task in batch.tasks if not task.answer.done()]
            if batch.tasks:
                running = asyncio.ensure_future(self._work(batch))
                self._running.add(running)
                running.add_done_callback(self._finished)

    def _finished(self, running: asyncio.Task) -> None:
        self._running.discard(running)
        self._dispatch()

    async def _work(self, batch: _Batch) -> None:
        tasks = batch.tasks
        rows = sum(task.rows for task in tasks)
        started = time.monotonic()
        try:
            outputs = await asyncio.get_running_loop().run_in_executor(
                self._executor, self._run_joined, batch.key, tasks, rows
            )
        except Exception as error:
            for task in tasks:
                if not task.answer.done():
                    task.answer.set_exception(error)
            return
        self._on_batch(rows, started - tasks[0].arrived, time.monotonic() - started)
        start = 0
        for task in tasks:
            part = {name: values[start : start + task.rows] for name, values in outputs.items()}
            start += task.rows
            if not task.answer.done():
                task.answer.set_result(part)

    def _run_joined(self, key: Hashable, tasks: list[_Task], rows: int) -> Arrays:
        filling = self.parameters.padded(rows) - rows if self.parameters.max_batch_size else 0
        if len(tasks) == 1 and not filling:
            return self._run(key, tasks[0].inputs)
        joined = {}
        for name in tasks[0].inputs:
            parts = [task.inputs[name] for task in tasks]
            parts += [parts[0][:1]] * filling
            joined[name] = np.concatenate(parts)
        outputs = self._run(key, joined)
        return {name: values[:rows] for name, values in outputs.items()}
