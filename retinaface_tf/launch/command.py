"""The command that starts one worker, here or on its host."""

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from retinaface_tf.errors import ConfigError
from retinaface_tf.launch.hosts import Worker, tf_config

# BatchMode: a question for a password would wait for ever.
DEFAULT_SSH = ("ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10")
# Lines of a worker arrive when they are written.
_UNBUFFERED = {"PYTHONUNBUFFERED": "1"}


@dataclass(frozen=True, kw_only=True)
class WorkerEnvironment:
    """How workers are started on their hosts, the same for all.

    Attributes:
        python: interpreter there; the launcher's own on this machine unless named.
        variables: environment variables of the workers, besides TF_CONFIG.
        ssh: command that, given a host and one line for its shell, runs the line there.
    """

    python: str = field(default_factory=lambda: sys.executable)
    folder: str = field(default_factory=os.getcwd)
    variables: Mapping[str, str] = field(default_factory=dict)
    ssh: Sequence[str] = DEFAULT_SSH

    def local_variables(self, workers: Sequence[Worker], rank: int) -> dict[str, str]:
        """The environment of a worker on this machine: this process' own with the worker's."""
        own = {**self.variables, "TF_CONFIG": tf_config(workers, rank)}
        return {**os.environ, **_UNBUFFERED, **own}

    def shell_line(self, workers: Sequence[Worker], rank: int, command: Sequence[str]) -> str:
        """One line for a POSIX shell on the worker's host; everything in it is quoted."""
        variables = {**_UNBUFFERED, **self.variables, "TF_CONFIG": tf_config(workers, rank)}
        assignments = [f"{name}={shlex.quote(value)}" for name, value in variables.items()]
        line = " ".join(["exec", "env", *assignments, shlex.join(command)])
        return f"cd {shlex.quote(self.folder)} && {line}"

    def start_command(
        self, workers: Sequence[Worker], rank: int, command: Sequence[str]
    ) -> list[str]:
        """What the launcher runs for a worker: the command under supervision, by ssh where needed."""
        supervised = [self.python, "-m", "retinaface_tf.launch.supervise", *command]
        if workers[rank].local:
            return supervised
        line = self.shell_line(workers, rank, supervised)
        return [*self.ssh, workers[rank].host.strip("[]"), line]


def training_command(python: str, arguments: Sequence[str]) -> list[str]:
    """`retinaface-tf train` with those arguments.

    Raises:
        ConfigError: --restart is among them: every worker would remove what the others have
            written, and a run that is started again would lose its checkpoint.
    """
    if "--restart" in arguments:
        raise ConfigError(
            "--restart cannot be used with several workers; remove the folder of the run yourself, "
            "or choose another --out."
        )
    return [python, "-m", "retinaface_tf", "train", *arguments]


def parse_environment(entries: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE entries as a dict.

    Raises:
        ConfigError: an entry is not of this form, or sets TF_CONFIG.
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
