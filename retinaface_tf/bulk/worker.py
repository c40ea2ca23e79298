"""A worker: one model, and one shard after the other."""

from __future__ import annotations

from retinaface_tf.bulk.attempts import Attempts
from retinaface_tf.bulk.results import ShardReport
from retinaface_tf.bulk.shards import Shard
from retinaface_tf.bulk.work import Job, detect_shard
from retinaface_tf.errors import RetinaFaceError, WorkerError


class Worker:
    """Opens the detector with its first shard and keeps it.

    Args:
        job: of the run.
        name: who says so in the reports.
    """

    def __init__(self, job: Job, name: str | None = None):
        self._job, self._name = job, name
        self._detector = None

    def __call__(self, shard: Shard) -> ShardReport:
        """Searches a shard and writes its results.

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
                    f"{error} (The last said: {last!r}.)" if last else str(error)
                ) from last
            try:
                if self._detector is None:
                    self._detector = self._open()
                report = detect_shard(
                    self._detector,
                    shard,
                    job.out,
                    batch_size=job.batch_size,
                    attempts=attempts,
                    worker=self._name,
                )
            except RetinaFaceError:
                attempts.finish()
                raise
            except Exception as error:  # as good as a death: find the image, and leave it out
                last = error
                continue
            attempts.finish()
            return report

    def _open(self):
        import cv2

        import retinaface_tf

        if retinaface_tf.__version__ != self._job.version:
            raise WorkerError(
                f"A worker has retinaface-tf {retinaface_tf.__version__}, the run was started with "
                f"{self._job.version}; install the same everywhere."
            )
        if self._job.network.threads is not None:
            cv2.setNumThreads(self._job.network.threads)
        return self._job.network.open()
