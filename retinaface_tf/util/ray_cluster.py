"""Connecting to a Ray cluster, or to a Ray of this machine that is started for it."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from types import ModuleType

from retinaface_tf.errors import WorkerError, first_line
from retinaface_tf.util.process import connection_problem

# Size of a local Ray's object store: little goes through it.
_STORE_BYTES = 128 * 1024**2
_CONNECT_SECONDS = 10


@contextlib.contextmanager
def ray_cluster(address: str | None) -> Iterator[ModuleType]:
    """The module `ray`, connected; a connection that the caller has is used and kept.

    Args:
        address: "ray://host:10001", "host:6379", "auto", or "local"; None takes $RAY_ADDRESS, and
            without that "local".

    Raises:
        WorkerError: the cluster does not answer.
    """
    # Ray sends usage statistics unless this is set before it is imported.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray's core warns of what its libraries do; errors come as exceptions too.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import ray
    import ray.util.client

    if ray.is_initialized():
        yield ray
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    options = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address == "local":
        options |= {"include_dashboard": False, "object_store_memory": _STORE_BYTES}
        options["_node_ip_address"] = "127.0.0.1"
    host_and_port = address.removeprefix("ray://")
    if ":" in host_and_port:  # Ray itself would try for minutes
        problem = connection_problem(host_and_port, _CONNECT_SECONDS)
        if problem:
            raise WorkerError(f"Cannot reach Ray at {address!r}: {problem}.")
    try:
        ray.init(address, **options)
    except Exception as error:  # Ray's own, and many of the libraries below it
        reason = first_line(error).rstrip(".")
        raise WorkerError(f"Cannot reach Ray at {address!r}: {reason}.") from error
    try:
        yield ray
    finally:
        ray.shutdown()
