"""The engine for clusters: Ray Data deals the shards out to actors, each with a model of its own."""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from retinaface_tf.bulk.results import ShardReport
from retinaface_tf.bulk.shards import Shard
from retinaface_tf.bulk.work import Job
from retinaface_tf.errors import DataError, RetinaFaceError, WorkerError
from retinaface_tf.util.files import write_whole

if TYPE_CHECKING:
    import numpy as np

NETWORK_FOLDER = "_network"
# Of the object store of a local Ray: only shards and reports go through it.
_STORE_BYTES = 128 * 1024**2
_CONNECT_SECONDS = 10
_POLL_SECONDS = 1


def run_on_ray(
    job: Job,
    shards: list[Shard],
    *,
    workers: int | None,
    address: str | None,
    gpus_per_worker: float,
) -> Iterator[ShardReport]:
    """Searches shards by actors of a Ray cluster, or of a Ray started here for the time.

    An actor that dies, alone or with its machine, is replaced, and its shard done again.

    Args:
        job: of the run; its folder and the images must have the same paths on all machines.
        shards: what is to be done.
        workers: how many actors; None for one a processor (or for each share of a GPU).
        address: "ray://host:10001", "host:6379", "auto", or "local"; None takes $RAY_ADDRESS, and
            without that "local". Where the caller has connected already, that connection is used.
        gpus_per_worker: GPUs, or a part of one, for each actor.

    Yields:
        The report of each shard, in the order in which they are done.

    Raises:
        RetinaFaceError: Ray is not installed, or a worker gave a reason to stop.
        WorkerError: the cluster is away, or has no place for a worker.
    """
    ray = _import_ray()
    connected = ray.is_initialized()
    if not connected:
        _connect(ray, address)
    try:
        workers = min(workers or _places(ray, gpus_per_worker), len(shards))
        job = _share_network(job)
        run = _run_from_afar if ray.util.client.ray.is_connected() else _run
        yield from run(job, shards, workers, gpus_per_worker)
    finally:
        if not connected:
            ray.shutdown()


def _import_ray():
    # Ray tells its makers of each use unless told not to, before it is imported.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Its core warns of Ray Data's own ways; what goes wrong comes as an exception too.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray.data
        import ray.util.client
    except ImportError:
        raise RetinaFaceError(
            "The engine 'ray' needs Ray Data, which is not installed: "
            "pip install 'retinaface-tf[ray]'."
        ) from None
    return ray


def _connect(ray, address: str | None) -> None:
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    options = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address == "local":
        options |= {"include_dashboard": False, "object_store_memory": _STORE_BYTES}
        options["_node_ip_address"] = "127.0.0.1"
    _require_listener(address)
    try:
        ray.init(address, **options)
    except Exception as error:  # Ray's own, and a dozen of the libraries below it
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise WorkerError(f"Cannot reach Ray at {address!r}: {reason.rstrip('.')}.") from error


def _require_listener(address: str) -> None:
    """Asks whether anyone is there, which Ray itself would do for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise WorkerError(f"Cannot reach Ray at {address!r}: {reason}.") from None


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
    context.execution_no_progress_timeout_s = -1  # a shard may take its time
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    with ray.data.DataContext.current(context):
        items = [{"shard": shard.to_json()} for shard in shards]
        reports = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            ShardActor,
            fn_constructor_args=(job.to_json(),),
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


def _run_from_afar(
    job: Job, shards: list[Shard], workers: int, gpus_per_worker: float
) -> Iterator[ShardReport]:
    """The run from a machine outside the cluster ("ray://"), where Ray Data does not work itself."""
    import ray

    driver = ray.remote(num_cpus=0, max_concurrency=2)(Driver).remote()
    end = driver.run.remote(job.to_json(), [s.to_json() for s in shards], workers, gpus_per_worker)
    told = 0
    while True:
        ended, _ = ray.wait([end], timeout=_POLL_SECONDS)
        for report in ray.get(driver.reports.remote(told)):
            told += 1
            yield ShardReport(**report)
        if ended:
            failure = ray.get(end)
            if failure:
                raise WorkerError(failure)
            return


class Driver:
    """A run whose caller is outside the cluster."""

    def __init__(self):
        self._reports: list[dict] = []

    def run(self, job: str, shards: list[str], workers: int, gpus_per_worker: float) -> str | None:
        """Until all is done; what stopped it otherwise."""
        try:
            whole = [Shard.from_json(shard) for shard in shards]
            for report in _run(Job.from_json(job), whole, workers, gpus_per_worker):
                self._reports.append(asdict(report))
        except RetinaFaceError as error:
            return str(error)

    def reports(self, told: int) -> list[dict]:
        """Those behind the first so many."""
        return self._reports[told:]


def _share_network(job: Job) -> Job:
    """The job with the network's file beside the results: other machines may not have it."""
    path = Path(job.network.path)
    shared = Path(job.out) / NETWORK_FOLDER / path.name
    write_whole(shared, path.read_bytes(), error=DataError)
    return replace(job, network=replace(job.network, path=str(shared)))


class ShardActor:
    """A `Worker` as Ray Data calls it.

    Args:
        job: JSON of the `Job`.
    """

    def __init__(self, job: str):
        import ray

        from retinaface_tf.bulk.worker import Worker

        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
        name = f"{ray.get_runtime_context().get_node_id()[:12]}/{os.getpid()}"
        self._worker = Worker(Job.from_json(job), name)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[str]]:
        """Shards as JSON in, reports as JSON out; a reason to stop is a report too."""
        answers = []
        for line in batch["shard"]:
            try:
                answer = asdict(self._worker(Shard.from_json(str(line))))
            except RetinaFaceError as error:
                answer = {"failure": str(error)}
            answers.append(json.dumps(answer))
        return {"report": answers}
