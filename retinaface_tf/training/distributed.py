"""Which devices a run uses, and what it may ask of TensorFlow before it starts."""

import contextlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import tensorflow as tf

from retinaface_tf.errors import ConfigError, first_line
from retinaface_tf.util.process import connection_problem, to_stderr


@dataclass(frozen=True)
class Devices:
    """The devices of a run as this process sees them.

    Attributes:
        worker, workers: this process' number and how many there are.
    """

    strategy: tf.distribute.Strategy
    worker: int = 0
    workers: int = 1

    @property
    def replicas(self) -> int:
        """Copies of the network over all workers."""
        return self.strategy.num_replicas_in_sync

    @property
    def chief(self) -> bool:
        """Whether this process writes the run's files."""
        return self.worker == 0


def choose_devices(count: int = 0) -> Devices:
    """The run's devices.

    With several workers in `TF_CONFIG`, one `MultiWorkerMirroredStrategy` over all of them; else
    every GPU of this host (or `count` of them) under `MirroredStrategy`; else the CPU. It has to be
    called before any other use of TensorFlow.

    Args:
        count: devices on this host, 0 for all; on a machine without GPUs, as many logical CPUs.

    Raises:
        ConfigError: `TF_CONFIG` is not valid, or there are fewer GPUs.
    """
    cluster = _cluster_workers()
    if len(cluster) > 1:
        own = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
        _check_port(cluster[own], own)
        with _naming_the_missing(cluster, own):
            strategy = tf.distribute.MultiWorkerMirroredStrategy()
        return Devices(strategy, own, len(cluster))
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        if count > len(gpus):
            raise ConfigError(f"devices={count}, but TensorFlow sees {len(gpus)} GPUs here.")
        names = [f"GPU:{i}" for i in range(count or len(gpus))]
    else:
        names = [f"CPU:{i}" for i in range(max(count, 1))]
        if count > 1:
            _split_cpu(count)
    if len(names) == 1:
        return Devices(tf.distribute.get_strategy())
    return Devices(tf.distribute.MirroredStrategy(names))


def join_slurm_step() -> None:
    """Sets `TF_CONFIG` for the task of a SLURM step that this process is, by TensorFlow's resolver.

    Raises:
        ConfigError: it is none, or one that the resolver does not understand.
    """
    try:
        # SLURM gives each task its GPUs, and the resolver fails where there are none: it is told of one
        # for each of up to 64 tasks of a node, and to choose none.
        resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(
            gpus_per_node=64, gpus_per_task=1, auto_set_gpu=False
        )
        cluster = resolver.cluster_spec().as_dict()
        kind, index = resolver.get_task_info()
    except (RuntimeError, ValueError, LookupError, OSError) as error:
        raise ConfigError(
            f"--engine slurm has to be started by srun, a task for each worker ({first_line(error)})."
        ) from None
    task = {"type": kind, "index": index}
    os.environ["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": task})


def _split_cpu(count: int) -> None:
    (cpu, *_) = tf.config.list_physical_devices("CPU")
    if len(tf.config.get_logical_device_configuration(cpu) or ()) != count:
        try:
            tf.config.set_logical_device_configuration(
                cpu, [tf.config.LogicalDeviceConfiguration()] * count
            )
        except RuntimeError:
            raise ConfigError(
                f"devices={count} has to be set before TensorFlow is used in this process."
            ) from None


def _check_port(address: str, worker: int) -> None:
    """TensorFlow would say no more than that it cannot start a server."""
    _, _, port = address.rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # A run before this one may have left connections that are closing.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", int(port)))
        except (OSError, ValueError, OverflowError) as error:
            raise ConfigError(
                f"Worker {worker} cannot listen on port {port} of {address} "
                f"({getattr(error, 'strerror', None) or error}); stop what uses it, or give the "
                "worker another port on every host."
            ) from None


@contextlib.contextmanager
def _naming_the_missing(addresses: list[str], own: int, seconds: float = 30.0) -> Iterator[None]:
    """Names from time to time the other workers that do not answer: TensorFlow waits in silence."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(seconds):
            problems = {
                f"worker {rank} ({address})": connection_problem(address)
                for rank, address in enumerate(addresses)
                if rank != own
            }
            missing = [f"{worker}: {problem}" for worker, problem in problems.items() if problem]
            if missing and not done.is_set():
                to_stderr(f"waiting for {'; '.join(missing)}. Start them, or open their ports.")

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _cluster_workers() -> list[str]:
    """Addresses of the workers in `TF_CONFIG`, none without it."""
    text = os.environ.get("TF_CONFIG")
    if not text:
        return []
    try:
        document = json.loads(text)
        cluster, task = document["cluster"], document["task"]
        workers = [str(address) for address in cluster["worker"]]
        workers[task["index"]]
    except (ValueError, LookupError, TypeError) as error:
        raise ConfigError(
            "TF_CONFIG is not valid: it needs JSON with 'cluster' (a 'worker' list of host:port) "
            f"and 'task' ({error!r})."
        ) from None
    if "chief" in cluster:
        raise ConfigError("TF_CONFIG: list every host under 'worker'; worker 0 is the chief.")
    return workers
