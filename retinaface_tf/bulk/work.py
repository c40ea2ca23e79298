"""The work itself: the images of a shard searched, and their results written."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retinaface_tf.bulk.attempts import Attempts
from retinaface_tf.bulk.network import NetworkSpec, num_vertices
from retinaface_tf.bulk.results import ResultRows, ShardReport, shard_name
from retinaface_tf.bulk.shards import Shard
from retinaface_tf.errors import DataError
from retinaface_tf.util.files import write_whole


@dataclass(frozen=True)
class Job:
    """What all workers of a run have in common.

    Attributes:
        network: what searches.
        out: folder of the results.
        batch_size: images given to the network at once.
        retries: see `Attempts`.
        run: name of this run, another one each time.
        version: of this package where the run was started.
    """

    network: NetworkSpec
    out: str
    batch_size: int
    retries: int
    run: str
    version: str

    def to_json(self) -> str:
        """One line; `from_json` is the inverse."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Job:
        """The inverse of `to_json`."""
        values = json.loads(line)
        return cls(**{**values, "network": NetworkSpec.from_dict(values["network"])})


def worker_name() -> str:
    """Machine and process."""
    return f"{socket.gethostname()}/{os.getpid()}"


def detect_shard(
    detector: Any,
    shard: Shard,
    out: str | Path,
    *,
    batch_size: int,
    attempts: Attempts | None = None,
    worker: str | None = None,
) -> ShardReport:
    """Searches a shard's images and writes their results.

    Args:
        detector: has `stream`.
        shard: the images.
        out: folder of the results.
        batch_size: images given to the network at once.
        attempts: those before, begun; None where a death ends the run.
        worker: who says so in the report.

    Raises:
        ImageError: a tar or table is gone.
        DataError: the results cannot be written.
    """
    rows = ResultRows(shard.first, num_vertices(detector))
    if attempts is not None and attempts.careful:
        _one_by_one(detector, shard, rows, attempts)
    else:
        _all_at_once(detector, shard, rows, batch_size)
    report = rows.report(shard.number, worker or worker_name())
    write_whole(Path(out) / shard_name(shard.number), rows.encode(report), error=DataError)
    return report


def _all_at_once(detector: Any, shard: Shard, rows: ResultRows, batch_size: int) -> None:
    waiting: deque = deque()

    def contents() -> Iterator[Any]:
        for image in shard.part.images():
            waiting.append(image)
            if image.problem is None:
                yield image.content

    for answer in detector.stream(contents(), batch_size=batch_size):
        _add_problems(waiting, rows)
        rows.add(waiting.popleft()._replace(content=None), answer)
    _add_problems(waiting, rows)


def _add_problems(waiting: deque, rows: ResultRows) -> None:
    while waiting and waiting[0].problem is not None:
        image = waiting.popleft()
        rows.add(image, image.problem)


def _one_by_one(detector: Any, shard: Shard, rows: ResultRows, attempts: Attempts) -> None:
    for place, image in enumerate(shard.part.images()):
        if image.problem is not None:
            answer = image.problem
        elif place in attempts.deadly:
            full = "/".join(filter(None, [image.source, image.name]))
            answer = f"Cannot search {full}: every worker that tried died."
        else:
            attempts.at(place)
            (answer,) = detector.stream([image.content], batch_size=1)
        rows.add(image._replace(content=None), answer)
