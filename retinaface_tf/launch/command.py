"""The command that starts one worker, here or on its host."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from retinaface_tf.errors import ConfigError
from retinaface_tf.launch.hosts import Worker, tf_config

# BatchMode: a question for a password would wait for ever.
DEFAULT_SSH = ("ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10")


@dataclass(frozen=True, kw_only=True)
class WorkerEnvironment:
    """What every worker finds on its host.

    Attributes:
        python: interpreter there; the launcher's own on this machine unless named.
        folder: working folder there.
        environment: variables set for the workers, besides TF_CONFIG.
        ssh: command that, given a host and one line for its shell, runs the line there.
    """

    python: str = field(default_factory=lambda: sys.executable)
    folder: str = field(default_factory=os.getcwd)
    environment: Mapping[str, str] = field(default_factory=dict)
    ssh: Sequence[str] = DEFAULT_SSH


def training_command(python: str, arguments: Sequence[str]) -> list[str]:
    """`retinaface-tf train` with those arguments.

    Raises:
        ConfigError: among them is --restart, with which every worker would remove what the others
            have written, and a run started again what it was to go on from.
    """
    if "--restart" in arguments:
        raise ConfigError(
            "--restart cannot be used with several workers; remove the folder of the run yourself, "
            "or choose another --out."
        )
    return [python, "-m", "retinaface_tf", "train", *arguments]


def local_environment(workers: Sequence[Worker], rank: int, extra: Mapping[str, str]) -> dict:
    """This process' environment with what a worker needs."""
    return {
        **os.environ,
        # Lines of a worker are seen when they are written.
        "PYTHONUNBUFFERED": "1",
        **extra,
        "TF_CONFIG": tf_config(workers, rank),
    }


def shell_line(
    workers: Sequence[Worker], rank: int, command: Sequence[str], surroundings: WorkerEnvironment
) -> str:
    """One line for a POSIX shell on the worker's host; everything in it is quoted."""
    variables = {"PYTHONUNBUFFERED": "1", **surroundings.environment}
    variables["TF_CONFIG"] = tf_config(workers, rank)
    assignments = [f"{name}={shlex.quote(value)}" for name, value in variables.items()]
    line = " ".join(["exec", "env", *assignments, shlex.join(command)])
    return f"cd {shlex.quote(surroundings.folder)} && {line}"


def start_command(
    workers: Sequence[Worker], rank: int, command: Sequence[str], surroundings: WorkerEnvironment
) -> list[str]:
    """What the launcher runs for a worker: the command under supervision, by ssh where needed."""
    supervised = [surroundings.python, "-m", "retinaface_tf.launch.supervise", *command]
    if workers[rank].local:
        return supervised
    line = shell_line(workers, rank, supervised, surroundings)
    return [*surroundings.ssh, workers[rank].host.strip("[]"), line]


def parse_environment(entries: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE entries as a dict.

    Raises:
        ConfigError: an entry is none, or is TF_CONFIG.
    """
    found = {}
    for entry in entries:
        name, equals, value = entry.partition("=")
        if not equals or not name.isidentifier() or not name.isascii():
            raise ConfigError(f"--env {entry!r} is not understood: write NAME=VALUE.")
        if name == "TF_CONFIG":
            raise ConfigError("--env TF_CONFIG cannot be set: it is made from the hosts list.")
        found[name] = value
    return found
