"""Which devices a run uses, and what it may ask of TensorFlow before it starts."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

import tensorflow as tf

from retinaface_tf.errors import ConfigError


@dataclass(frozen=True)
class Devices:
    """The devices of a run as this process sees them.

    Attributes:
        strategy: of tf.distribute.
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
    if cluster:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        resolver = strategy.cluster_resolver
        return Devices(strategy, resolver.task_id, cluster)
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


def _cluster_workers() -> int:
    """Number of workers in `TF_CONFIG`, 0 when there is one or none."""
    text = os.environ.get("TF_CONFIG")
    if not text:
        return 0
    try:
        document = json.loads(text)
        cluster, task = document["cluster"], document["task"]
        workers = [*cluster.get("chief", ()), *cluster["worker"]]
        int(task["index"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            "TF_CONFIG is not valid: it needs JSON with 'cluster' (a 'worker' list of host:port) "
            f"and 'task' ({error!r})."
        ) from None
    if "chief" in cluster:
        raise ConfigError("TF_CONFIG: list every host under 'worker'; worker 0 is the chief.")
    return len(workers) if len(workers) > 1 else 0
