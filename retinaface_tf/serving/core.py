"""What every entry to the server shares: checks, limits, queues, the run itself, the counts."""

from __future__ import annotations

import asyncio
import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from retinaface_tf.protocol.messages import ModelSpec
from retinaface_tf.serving.batching import Arrays, Batcher, BatchingParameters
from retinaface_tf.serving.loaded_model import LoadedModel
from retinaface_tf.serving.metrics import Metrics
from retinaface_tf.serving.repository import Repository
from retinaface_tf.serving.request_error import RequestError


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a request may ask for, and what all of them together may hold.

    Attributes:
        request_bytes: largest message or body.
        request_pixels: pixels of an `images` tensor, all its images together. Encoded images
            carry their own limit in the exported graph.
        pending_bytes: of all requests taken in and not yet answered.
        pending_requests: how many those may be.
    """

    request_bytes: int = 64 << 20
    request_pixels: int = 100_000_000
    pending_bytes: int = 512 << 20
    pending_requests: int = 1024


class Core:
    """Answers requests with the versions of one model.

    Args:
        repository: the versions.
        batching: how requests are joined.
        limits: see `Limits`.
        metrics: what is counted.
    """

    def __init__(
        self,
        repository: Repository,
        batching: BatchingParameters,
        limits: Limits,
        metrics: Metrics,
    ):
        self.repository, self.limits, self.metrics = repository, limits, metrics
        self._executor = ThreadPoolExecutor(batching.num_batch_threads, "batch")
        self._batcher = Batcher(self._run, batching, self._executor, self._note_batch)
        self._pending_bytes = self._pending_requests = 0
        self.draining = False
        metrics.watch("queued_rows", lambda: self._batcher.queued_rows)
        metrics.watch("pending_requests", lambda: self._pending_requests)
        metrics.watch("pending_bytes", lambda: self._pending_bytes)

    def admit(self, size: int) -> _Admission:
        """Takes a request of so many bytes in, as a context, or refuses it."""
        return _Admission(self, size)

    async def predict(
        self,
        model: LoadedModel,
        signature_name: str,
        inputs: Arrays,
        outputs: list[str] | None = None,
        entrypoint: str = "gRPC",
    ) -> Arrays:
        """Runs a signature for one request; its inputs are checked already.

        Raises:
            RequestError: the inputs disagree on the batch, hold too many pixels, or ask for outputs
                that do not exist; or the queue is full.
        """
        signature = model.signatures[signature_name]
        unknown = [name for name in outputs or [] if name not in signature.outputs]
        if unknown:
            raise RequestError(
                "INVALID_ARGUMENT",
                f"There is no output {unknown[0]!r}; there are {sorted(signature.outputs)}.",
            )
        self._check_sizes(inputs)
        # What can be concatenated shares every side but the first.
        shapes = tuple((name, values.shape[1:]) for name, values in sorted(inputs.items()))
        started = time.perf_counter()
        answer = await self._batcher.submit((model, signature_name, shapes), inputs)
        self.metrics.note_run(time.perf_counter() - started)
        if outputs:
            answer = {name: answer[name] for name in outputs}
        return answer

    async def drain(self) -> None:
        """Refuses new requests from now on; returns when those taken in are answered."""
        self.draining = True
        while self._pending_requests:
            await self._batcher.drain()
            await asyncio.sleep(0.02)

    def close(self) -> None:
        """Ends the threads."""
        self._executor.shutdown(wait=False)

    def choose_signature(self, model: LoadedModel, spec: ModelSpec) -> str:
        """The signature a request names; `serving_default` if it names none."""
        name = spec.signature_name or "serving_default"
        if name not in model.signatures:
            raise RequestError(
                "INVALID_ARGUMENT",
                f"There is no signature {name!r}; there are {sorted(model.signatures)}.",
            )
        return name

    def _check_sizes(self, inputs: Arrays) -> None:
        rows = {len(values) if values.ndim else -1 for values in inputs.values()}
        if len(rows) != 1 or -1 in rows:
            raise RequestError(
                "INVALID_ARGUMENT", "Inputs must share their first dimension, the batch."
            )
        for name, values in inputs.items():
            if values.dtype == object:
                continue
            pixels = math.prod(values.shape[:3])
            if pixels > self.limits.request_pixels:
                raise RequestError(
                    "INVALID_ARGUMENT",
                    f"Input {name!r} has {pixels:,} pixels; the limit is "
                    f"{self.limits.request_pixels:,}.",
                )
            if rows != {0} and values.size == 0:
                raise RequestError("INVALID_ARGUMENT", f"Input {name!r} has images without pixels.")

    def _run(self, key, inputs: Arrays) -> Arrays:
        model, signature, _ = key
        return model.run(signature, inputs)

    def _note_batch(self, rows: int, waited: float, ran: float) -> None:
        self.metrics.note_batch(rows, waited, ran)


class _Admission:
    """The bytes of one request, counted while it is in the house."""

    def __init__(self, core: Core, size: int):
        self._core, self._size = core, size

    def __enter__(self) -> None:
        core, limits = self._core, self._core.limits
        if core.draining:
            raise RequestError("UNAVAILABLE", "The server is stopping.")
        if self._size > limits.request_bytes:
            raise RequestError(
                "RESOURCE_EXHAUSTED",
                f"The request has {self._size:,} bytes; the limit is {limits.request_bytes:,}.",
            )
        full = core._pending_bytes + self._size > limits.pending_bytes
        if full or core._pending_requests >= limits.pending_requests:
            raise RequestError(
                "RESOURCE_EXHAUSTED",
                f"The server holds {core._pending_requests} requests of {core._pending_bytes:,} "
                "bytes already; try again later.",
            )
        core._pending_bytes += self._size
        core._pending_requests += 1

    def __exit__(self, *_) -> None:
        self._core._pending_bytes -= self._size
        self._core._pending_requests -= 1
