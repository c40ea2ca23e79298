"""What gRPC and REST share: limits, checks, the queue, the run itself, the metrics."""

import asyncio
import hmac
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from retinaface_tf.serving.batching import Arrays, Batcher, BatchingParameters
from retinaface_tf.serving.budget import Budget
from retinaface_tf.serving.loaded_model import Signature
from retinaface_tf.serving.metrics import Metrics
from retinaface_tf.serving.repository import Repository
from retinaface_tf.serving.request_error import RequestError


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a request may ask for, and what all of them together may hold.

    No address gets all of what requests hold together (`serving.budget`).

    Attributes:
        request_images: most images of a request, its rows.
        request_bytes: largest message or body.
        request_pixels: pixels of an `images` tensor, all its images together. For encoded images
            the exported graph has a limit of its own.
        pending_bytes: that have arrived of all requests not yet answered.
        pending_requests: most of those.
        connections: open HTTP connections.
        read_seconds: within which the head of a request must be here, then its body or message; an
            HTTP connection without a request is closed after as long.
        run_seconds: that the graph may run for a request or batch.
    """

    request_images: int = 32
    request_bytes: int = 64 << 20
    request_pixels: int = 100_000_000
    pending_bytes: int = 512 << 20
    pending_requests: int = 1024
    connections: int = 1000
    read_seconds: float = 30.0
    run_seconds: float = 120.0


class Caller(NamedTuple):
    """Who asks, and how many seconds they wait; None for ever."""

    address: str
    seconds: float | None = None


class Core:
    """Answers requests with the versions of one model; with a `token`, to those who send it.

    Attributes:
        answered: how many requests have been.
    """

    def __init__(
        self,
        repository: Repository,
        batching: BatchingParameters,
        limits: Limits,
        metrics: Metrics,
        token: str | None = None,
    ):
        self.repository, self.limits, self.metrics = repository, limits, metrics
        self._token = token
        self.answered = 0
        self._executor = ThreadPoolExecutor(batching.threads, "batch")
        self._batcher = Batcher(
            lambda key, inputs, seconds: key[0].run(inputs, min(seconds, limits.run_seconds)),
            batching,
            self._executor,
            metrics.note_batch,
        )
        self._bytes = Budget(limits.pending_bytes, limits.request_bytes)
        self._requests = Budget(limits.pending_requests)
        self.draining = False
        metrics.watch("queued_rows", lambda: self._batcher.queued_rows)
        metrics.watch("pending_requests", lambda: self._requests.used)
        metrics.watch("pending_bytes", lambda: self._bytes.used)

    @contextmanager
    def answering(self, api: str, entrypoint: str, count: bool = True) -> Iterator[None]:
        """The block answers one request: counted under its status, errors become a RequestError.

        Args:
            api: "predict", "metadata" or "status".
            entrypoint: "gRPC" or "REST".
            count: whether it is counted.

        Raises:
            RequestError: for whatever went wrong. CancelledError passes: the caller hung up.
        """
        started, status = time.perf_counter(), "OK"
        try:
            yield
        except asyncio.CancelledError:
            status = "CANCELLED"
            raise
        except RequestError as error:
            status = error.code
            raise
        except Exception as error:
            status = "INTERNAL"
            raise RequestError.of(error) from error
        finally:
            if count:
                self.metrics.note_request(status, time.perf_counter() - started, api, entrypoint)

    @contextmanager
    def admit(self, address: str, announced: int = 0) -> Iterator[Callable[[int], None]]:
        """Counts a request of an address for as long as the block runs.

        Args:
            announced: bytes that it says it has.

        Yields:
            a function to call with the number of bytes whenever a part of the request arrives.

        Raises:
            RequestError: the server is stopping, or too many requests are pending. The function
                raises it where the request is too large, or too many bytes are pending.
        """
        if self.draining:
            raise RequestError("The server is stopping.", "UNAVAILABLE")
        if announced > self.limits.request_bytes:
            raise self._too_large()
        if not self._requests.take(address):
            raise self._overloaded()
        size = 0

        def arrived(amount: int) -> None:
            nonlocal size
            if size + amount > self.limits.request_bytes:
                raise self._too_large()
            if not self._bytes.take(address, amount):
                raise self._overloaded()
            size += amount

        try:
            yield arrived
        finally:
            self._bytes.give_back(address, size)
            self._requests.give_back(address)
            self.answered += 1

    def _too_large(self) -> RequestError:
        return RequestError(
            f"The request is larger than the limit of {self.limits.request_bytes:,} bytes.",
            "RESOURCE_EXHAUSTED",
            413,
        )

    def _overloaded(self) -> RequestError:
        return RequestError(
            f"The server has {self._requests.used} pending requests of {self._bytes.used:,} bytes, "
            "too many of them from your address for one more; try again later.",
            "RESOURCE_EXHAUSTED",
        )

    @property
    def ready(self) -> bool:
        """Whether requests are taken."""
        return bool(self.repository.available) and not self.draining

    def authorize(self, header: str | None) -> None:
        """Raises a RequestError unless an `authorization` header has the token, where there is one."""
        if self._token is None:
            return
        kind, _, given = (header or "").partition(" ")
        same = hmac.compare_digest(given.strip().encode(), self._token.encode())
        if kind.lower() != "bearer" or not same:
            raise RequestError(
                "The token is missing or wrong; send the header 'authorization: Bearer TOKEN'.",
                "UNAUTHENTICATED",
            )

    async def predict(
        self,
        signature: Signature,
        inputs: Arrays,
        caller: Caller,
        outputs: Sequence[str] = (),
    ) -> Arrays:
        """Runs a signature for one request.

        Args:
            signature: of a model that is in use.
            inputs: of its names, types and shapes.
            caller: addresses take turns, and the graph runs no longer than the caller waits.
            outputs: names of those to return; none for all.

        Raises:
            RequestError: the inputs disagree on the batch, hold too many images or pixels, or ask
                for outputs that do not exist; or the queue is full.
        """
        unknown = [name for name in outputs if name not in signature.outputs]
        if unknown:
            raise RequestError(
                f"There is no output {unknown[0]!r}; there are {sorted(signature.outputs)}."
            )
        self._check_sizes(inputs)
        # Only requests that agree in all sides but the first are joined.
        shapes = tuple((name, values.shape[1:]) for name, values in sorted(inputs.items()))
        started = time.perf_counter()
        answer = await self._batcher.submit(
            (signature, shapes), inputs, caller.address, caller.seconds
        )
        self.metrics.note_run(time.perf_counter() - started)
        return {name: answer[name] for name in outputs or answer}

    async def drain(self) -> None:
        """Refuses new requests from now on; returns when all accepted ones are answered."""
        self.draining = True
        while self._requests.used:
            await self._batcher.drain()
            await asyncio.sleep(0.02)

    def close(self) -> None:
        """Ends the threads."""
        self._executor.shutdown(wait=False)

    def _check_sizes(self, inputs: Arrays) -> None:
        rows = {len(values) if values.ndim else -1 for values in inputs.values()}
        if len(rows) != 1 or -1 in rows:
            raise RequestError("Inputs must share their first dimension, the batch.")
        count, limit = max(rows), self.limits.request_images
        if count > limit:
            raise RequestError(
                f"The request has {count:,} images; the limit is {limit:,}: send fewer at once, or "
                "start the server with a larger --max-images."
            )
        for name, values in inputs.items():
            if values.dtype == object:
                continue
            pixels = math.prod(values.shape[:3])
            if pixels > self.limits.request_pixels:
                limit = self.limits.request_pixels
                raise RequestError(f"Input {name!r} has {pixels:,} pixels; the limit is {limit:,}.")
            if rows != {0} and values.size == 0:
                raise RequestError(f"Input {name!r} has images without pixels.")
