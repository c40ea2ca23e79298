"""The engine for clusters: Ray Data gives the shards to actors, each with a model of its own."""

from __future__ import annotations

import json
import logging
import os
import pickle
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from retinaface_tf.bulk.results import ShardReport
from retinaface_tf.bulk.shards import Shard
from retinaface_tf.bulk.worker import Job, Worker
from retinaface_tf.errors import DataError, RetinaFaceError, WorkerError
from retinaface_tf.util.files import write_whole
from retinaface_tf.util.ray_cluster import ray_cluster

if TYPE_CHECKING:
    import numpy as np

NETWORK_FOLDER = "_network"
_POLL_SECONDS = 1


def run_on_ray(
    job: Job,
    shards: list[Shard],
    *,
    workers: int | None,
    address: str | None,
    gpus_per_worker: float,
) -> Iterator[ShardReport]:
    """Detects the faces of shards in actors of a Ray cluster, or of a Ray started for this run.

    An actor that crashes, alone or with its machine, is replaced, and its shard done again.

    Args:
        job: of the run; its folder and the images must have the same paths on all machines.
        workers: number of actors; None for one a processor (or one for each share of a GPU).
        address: "ray://host:10001", "host:6379", "auto", or "local"; None takes $RAY_ADDRESS, and
            without that "local". If the caller is connected already, that connection is used.
        gpus_per_worker: GPUs, or a part of one, for each actor.

    Yields:
        The report of each shard, in the order in which they end.

    Raises:
        RetinaFaceError: a worker gave a reason to stop.
        WorkerError: the cluster does not answer, or has no place for a worker.
    """
    with ray_cluster(address) as ray:
        workers = min(workers or _places(ray, gpus_per_worker), len(shards))
        job = _share_network(job)
        run = _run_from_outside if ray.util.client.ray.is_connected() else _run
        yield from run(job, shards, workers, gpus_per_worker)


def _places(ray, gpus_per_worker: float) -> int:
    kind, each = ("GPU", gpus_per_worker) if gpus_per_worker else ("CPU", 1)
    places = int(ray.cluster_resources().get(kind, 0) / each)
    if places < 1:
        raise WorkerError(f"The Ray cluster has no place for a worker: it has no free {kind}.")
    return places


def _run(
    job: Job, shards: list[Shard], workers: int, gpus_per_worker: float
) -> Iterator[ShardReport]:
    import ray.data

    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = -1  # a shard may take long
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    with ray.data.DataContext.current(context):
        items = [{"shard": pickle.dumps(shard)} for shard in shards]
        reports = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            ShardActor,
            fn_constructor_args=(job,),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=1),
            num_cpus=None if gpus_per_worker else 1,
            num_gpus=gpus_per_worker or None,
        )
        for row in reports.iter_rows():
            answer = json.loads(row["report"])
            if "failure" in answer:
                raise WorkerError(answer["failure"])
            yield ShardReport(**answer)


def _run_from_outside(
    job: Job, shards: list[Shard], workers: int, gpus_per_worker: float
) -> Iterator[ShardReport]:
    """The run from a machine outside the cluster ("ray://"), where Ray Data does not work."""
    import ray

    driver = ray.remote(num_cpus=0, max_concurrency=2)(Driver).remote()
    end = driver.run.remote(job, shards, workers, gpus_per_worker)
    received = 0
    while True:
        ended, _ = ray.wait([end], timeout=_POLL_SECONDS)
        for report in ray.get(driver.reports.remote(received)):
            received += 1
            yield ShardReport(**report)
        if ended:
            failure = ray.get(end)
            if failure:
                raise WorkerError(failure)
            return


class Driver:
    """An actor that does the run for a caller outside the cluster."""

    def __init__(self):
        self._reports: list[dict] = []

    def run(self, *run) -> str | None:
        """`_run` with its arguments; returns when all is done: None, or what stopped the run."""
        try:
            for report in _run(*run):
                self._reports.append(asdict(report))
        except RetinaFaceError as error:
            return str(error)

    def reports(self, received: int) -> list[dict]:
        """All reports after the first `received`."""
        return self._reports[received:]


def _share_network(job: Job) -> Job:
    """The job with a copy of the network's file in its folder: other machines may not have it."""
    path = Path(job.network.path)
    shared = Path(job.out) / NETWORK_FOLDER / path.name
    write_whole(shared, path.read_bytes(), error=DataError)
    return replace(job, network=replace(job.network, path=str(shared)))


class ShardActor:
    """A `Worker` as Ray Data calls it."""

    def __init__(self, job: Job):
        import ray

        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
        name = f"{ray.get_runtime_context().get_node_id()[:12]}/{os.getpid()}"
        self._worker = Worker(job, name)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[str]]:
        """Pickled shards in, reports as JSON out; a reason to stop the run is {"failure": ...}."""
        answers = []
        for shard in batch["shard"]:
            try:
                answer = asdict(self._worker(pickle.loads(shard)))
            except RetinaFaceError as error:
                answer = {"failure": str(error)}
            answers.append(json.dumps(answer))
        return {"report": answers}
