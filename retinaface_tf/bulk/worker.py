"""A worker: one detector, and one shard after the other."""

import os
import socket
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import retinaface_tf
from retinaface_tf.bulk.attempts import Attempts
from retinaface_tf.bulk.bulk_image import BulkImage
from retinaface_tf.bulk.network import NetworkSpec
from retinaface_tf.bulk.results import ShardReport, encode_results, shard_name
from retinaface_tf.bulk.shards import Shard
from retinaface_tf.errors import DataError, ImageError, RetinaFaceError, WorkerError
from retinaface_tf.faces.faces import Faces
from retinaface_tf.inference.detector import Detector
from retinaface_tf.util.files import write_whole

Answer = Faces | ImageError


@dataclass(frozen=True)
class Job:
    """What is the same for all workers of a run.

    Attributes:
        network: the detector that each worker opens.
        run: id of this run, new each time.
    """

    network: NetworkSpec
    out: str
    batch_size: int
    retries: int
    run: str
    version: str


class Worker:
    """Opens the detector with its first shard and keeps it.

    Args:
        name: of the worker in the reports; None for machine and process.
    """

    def __init__(self, job: Job, name: str | None = None):
        self._job, self._name = job, name
        self._detector = None

    def __call__(self, shard: Shard) -> ShardReport:
        """Detects the faces of a shard and writes its results.

        A Python error counts as a crash: the shard is done again, one image at a time.

        Raises:
            RetinaFaceError: a reason to stop the whole run.
        """
        job = self._job
        attempts = Attempts(job.out, shard.number, job.run, job.retries)
        last = None
        while True:
            try:
                attempts.begin()
            except WorkerError as error:
                raise WorkerError(
                    f"{error} (Last error: {last!r}.)" if last else str(error)
                ) from last
            try:
                if self._detector is None:
                    self._detector = self._open()
                report = detect_shard(
                    self._detector, shard, job.out, job.batch_size, attempts, self._name
                )
            except RetinaFaceError:
                attempts.finish()
                raise
            except Exception as error:
                last = error
                continue
            attempts.finish()
            return report

    def _open(self):
        import cv2

        if retinaface_tf.__version__ != self._job.version:
            raise WorkerError(
                f"A worker has retinaface-tf {retinaface_tf.__version__}, the run was started with "
                f"{self._job.version}; install the same everywhere."
            )
        if self._job.network.threads is not None:
            cv2.setNumThreads(self._job.network.threads)
        return self._job.network.open()


def detect_shard(
    detector: Detector,
    shard: Shard,
    out: str | Path,
    batch_size: int,
    attempts: Attempts | None = None,
    worker: str | None = None,
) -> ShardReport:
    """Detects the faces of a shard's images and writes the results.

    Args:
        attempts: begun; None where a crash ends the run.
        worker: name in the report; None for machine and process.

    Raises:
        ImageError: a tar or table is gone.
        DataError: the results cannot be written.
    """
    if attempts is not None and attempts.one_at_a_time:
        answers = _one_at_a_time(detector, shard, attempts)
    else:
        answers = _in_batches(detector, shard, batch_size)
    # The images' bytes are not kept.
    rows = [(image._replace(content=None), answer) for image, answer in answers]
    found = [answer for _, answer in rows if isinstance(answer, Faces)]
    report = ShardReport(
        number=shard.number,
        images=len(rows),
        faces=sum(map(len, found)),
        errors=len(rows) - len(found),
        worker=worker or f"{socket.gethostname()}/{os.getpid()}",
    )
    content = encode_results(rows, shard.first, report, detector.num_vertices)
    write_whole(Path(out) / shard_name(shard.number), content, error=DataError)
    return report


def _in_batches(
    detector: Detector, shard: Shard, batch_size: int
) -> Iterator[tuple[BulkImage, Answer]]:
    waiting: deque[BulkImage] = deque()

    def contents() -> Iterator[Any]:
        for image in shard.part.images():
            waiting.append(image)
            if image.problem is None:
                yield image.content

    def problems() -> Iterator[tuple[BulkImage, Answer]]:
        while waiting and waiting[0].problem is not None:
            image = waiting.popleft()
            yield image, ImageError(image.problem)

    for answer in detector.stream(contents(), batch_size=batch_size):
        yield from problems()
        yield waiting.popleft(), answer
    yield from problems()


def _one_at_a_time(
    detector: Detector, shard: Shard, attempts: Attempts
) -> Iterator[tuple[BulkImage, Answer]]:
    for place, image in enumerate(shard.part.images()):
        if image.problem is not None:
            answer = ImageError(image.problem)
        elif place in attempts.crashing:
            name = "/".join(filter(None, (image.source, image.name)))
            answer = ImageError(f"Cannot detect faces in {name}: every worker that tried crashed.")
        else:
            attempts.at(place)
            (answer,) = detector.stream([image.content], batch_size=1)
        yield image, answer
