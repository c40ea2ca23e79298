"""Dynamic batching: requests of several callers joined along the batch dimension.

Parameters carry TF-Serving's names and are read from TF-Serving's file format, so one file drives
both servers.
"""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Hashable
from concurrent.futures import Executor
from dataclasses import dataclass, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from google.protobuf import text_format

from retinaface_tf.errors import ConfigError, first_line
from retinaface_tf.protocol.messages import BatchingFile
from retinaface_tf.serving.budget import Budget
from retinaface_tf.serving.request_error import RequestError
from retinaface_tf.util.options import check_range

Arrays = dict[str, np.ndarray]
# For so long after an address has asked, another one gets half of the threads.
BESIDE_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class BatchingParameters:
    """How requests are joined; names and meanings are TF-Serving's.

    Attributes:
        max_batch_size: rows of a batch; a request with more is refused. 0 joins nothing: each
            request runs by itself, whatever its size.
        batch_timeout_micros: how long a batch that is not full waits for more, while a thread is
            free.
        max_enqueued_batches: batches that may wait or run; beyond, requests are refused
            (RESOURCE_EXHAUSTED) instead of filling memory.
        num_batch_threads: batches that run at the same time for one address; while others ask too,
            half of these.
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

    @property
    def threads(self) -> int:
        """All threads: one more than an address may use."""
        return self.num_batch_threads + 1

    def padded(self, rows: int) -> int:
        """Rows that a batch is filled up to."""
        return next((size for size in self.allowed_batch_sizes if size >= rows), rows)


def read_batching_file(path: str | Path) -> BatchingParameters:
    """Parameters from a `batching_parameters.txt` of TF-Serving, protobuf's text of one message.

    What it leaves out has the default; `thread_pool_name` and `pad_variable_length_inputs` have no
    effect here.

    Raises:
        ConfigError: the file cannot be read, or is not such a text.
    """
    path = Path(path)
    try:
        file = text_format.Parse(path.read_bytes(), BatchingFile())
    except OSError as error:
        raise ConfigError(f"Cannot read the batching file {path}: {error.strerror}.") from None
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} is no batching file of TF-Serving ({first_line(error).rstrip('.')}); its "
            f"fields are {', '.join(BatchingFile.DESCRIPTOR.fields_by_name)}."
        ) from None
    values: dict[str, Any] = {
        field.name: getattr(file, field.name).value
        for field in fields(BatchingParameters)
        if field.name != "allowed_batch_sizes" and file.HasField(field.name)
    }
    values = {"max_batch_size": 1000, **values}
    try:
        check_range(SimpleNamespace(**values), "", "max_batch_size", 1)
        return BatchingParameters(**values, allowed_batch_sizes=tuple(file.allowed_batch_sizes))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


@dataclass(eq=False)
class _Task:
    key: Hashable
    inputs: Arrays
    rows: int
    address: str
    deadline: float
    answer: asyncio.Future
    arrived: float


class Batcher:
    """Joins tasks of one key, runs the batches in threads, gives each task its rows back.

    Addresses take turns: next comes the oldest task of the address with the fewest rows before it;
    where several ask, none gets more than half of the threads; and the last thread runs only for an
    address that has no other. So no one waits for all that another has sent, and large images of one
    leave processors to the others.

    Args:
        run: called in a thread with a key, the joined inputs and the seconds that it may take;
            returns outputs whose first dimension is that of the inputs.
        executor: with at least `parameters.threads` threads.
        on_batch: called after each batch: rows, seconds its first task waited, seconds it ran.
    """

    def __init__(
        self,
        run: Callable[[Hashable, Arrays, float], Arrays],
        parameters: BatchingParameters,
        executor: Executor,
        on_batch: Callable[[int, float, float], None] = lambda *_: None,
    ):
        self._run, self._executor, self._on_batch = run, executor, on_batch
        self.parameters = parameters
        most = max(1, parameters.max_batch_size)
        self._budget = Budget(parameters.max_enqueued_batches * most, floor=most)
        self._asked: dict[str, float] = {}  # when an address asked last, in that order
        self._waiting: dict[_Task, None] = {}  # in order of arrival
        self._running: dict[asyncio.Task, list[_Task]] = {}
        self._draining = False

    @property
    def queued_rows(self) -> int:
        """Rows that wait for a thread."""
        return sum(task.rows for task in self._waiting)

    async def submit(
        self, key: Hashable, inputs: Arrays, address: str = "", seconds: float | None = None
    ) -> Arrays:
        """The answer for one request.

        Args:
            key: requests of different keys are never joined.
            inputs: arrays that share their first dimension; of one key, all others too.
            address: of the caller; addresses take turns.
            seconds: that its caller waits; None for ever.

        Raises:
            RequestError: INVALID_ARGUMENT for more rows than a batch holds, RESOURCE_EXHAUSTED when
                too many batches wait already.
        """
        rows = len(next(iter(inputs.values())))
        limit, loop = self.parameters.max_batch_size, asyncio.get_running_loop()
        if limit and rows > limit:
            raise RequestError(
                f"A request of {rows} images is larger than the server's max_batch_size {limit}; "
                "send fewer at once."
            )
        room = rows if limit else 1
        if not self._budget.take(address, room):
            raise RequestError(
                f"The server's queue is full ({self.queued_rows} images wait, too many of them from "
                "your address for one more); try again later.",
                "RESOURCE_EXHAUSTED",
            )
        now = time.monotonic()
        deadline = math.inf if seconds is None else now + seconds
        task = _Task(key, inputs, rows, address, deadline, loop.create_future(), now)
        self._asked.pop(address, None)
        self._asked[address] = now
        task.answer.add_done_callback(lambda _: self._waiting.pop(task, None))
        self._waiting[task] = None
        self._dispatch()
        if limit and task in self._waiting:
            loop.call_later(self.parameters.batch_timeout_micros / 1e6, self._dispatch)
        try:
            return await task.answer
        finally:
            self._budget.give_back(address, room)

    async def drain(self) -> None:
        """Returns when everything submitted has been answered; no batch waits for more rows."""
        self._draining = True
        while self._waiting or self._running:
            self._dispatch()
            await asyncio.wait(self._running)

    def _dispatch(self) -> None:
        """Starts batches while threads are free."""
        while len(self._running) < self.parameters.threads and (tasks := self._next_batch()):
            for task in tasks:
                del self._waiting[task]
            running = asyncio.ensure_future(self._work(tasks))
            self._running[running] = tasks
            running.add_done_callback(self._finished)

    def _next_batch(self) -> list[_Task]:
        """Tasks of one key that fill a batch or have waited long enough; none where none may run."""
        limit, most = self.parameters.max_batch_size, self.parameters.num_batch_threads
        now = time.monotonic()
        while self._asked and next(iter(self._asked.values())) < now - BESIDE_SECONDS:
            del self._asked[next(iter(self._asked))]
        if len(self._asked) > 1:
            most = max(1, most // 2)
        before: Counter[str] = Counter()  # rows of each address under way or earlier in its queue
        threads: Counter[str] = Counter()
        for tasks in self._running.values():
            threads.update({task.address for task in tasks})
            for task in tasks:
                before[task.address] += task.rows
        turns = {}
        for task in self._waiting:
            turns[task] = before[task.address]
            before[task.address] += task.rows
        queues: dict[Hashable, list[_Task]] = {}
        for task in sorted(turns, key=turns.__getitem__):
            if threads[task.address] < most:
                queues.setdefault(task.key, []).append(task)
        due = now - self.parameters.batch_timeout_micros / 1e6
        for queue in queues.values():
            if not limit:
                return queue[:1]
            batch, rows = [], 0
            for task in queue:
                if rows + task.rows <= limit:
                    batch.append(task)
                    rows += task.rows
            full = rows == limit or len(batch) < len(queue)
            if full or self._draining or any(task.arrived <= due for task in queue):
                return batch
        return []

    def _finished(self, running: asyncio.Task) -> None:
        del self._running[running]
        self._dispatch()

    async def _work(self, tasks: list[_Task]) -> None:
        rows = sum(task.rows for task in tasks)
        started = time.monotonic()
        try:
            outputs = await asyncio.get_running_loop().run_in_executor(
                self._executor, self._run_joined, tasks[0].key, tasks, rows
            )
        except Exception as error:
            for task in tasks:
                if not task.answer.done():
                    task.answer.set_exception(error)
            return
        self._on_batch(
            rows, started - min(task.arrived for task in tasks), time.monotonic() - started
        )
        start = 0
        for task in tasks:
            part = {name: values[start : start + task.rows] for name, values in outputs.items()}
            start += task.rows
            if not task.answer.done():
                task.answer.set_result(part)

    def _run_joined(self, key: Hashable, tasks: list[_Task], rows: int) -> Arrays:
        filling = self.parameters.padded(rows) - rows if self.parameters.max_batch_size else 0
        seconds = max(task.deadline for task in tasks) - time.monotonic()
        if len(tasks) == 1 and not filling:
            return self._run(key, tasks[0].inputs, seconds)
        joined = {}
        for name in tasks[0].inputs:
            parts = [task.inputs[name] for task in tasks]
            parts += [parts[0][:1]] * filling
            joined[name] = np.concatenate(parts)
        outputs = self._run(key, joined, seconds)
        return {name: values[:rows] for name, values in outputs.items()}
