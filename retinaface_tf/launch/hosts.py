"""The list of hosts of a run, and `TF_CONFIG`, which gives it to TensorFlow."""

import ipaddress
import json
import re
import socket
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from retinaface_tf.errors import ConfigError

# Port of the first worker on a host whose line names none; the next ones count up from it.
DEFAULT_PORT = 12345
# A name or an IPv4 address, or an IPv6 address in brackets; never something ssh takes for an option.
_LINE = re.compile(
    r"(?P<host>[A-Za-z0-9_][A-Za-z0-9_.-]*|\[[0-9A-Fa-f:.]+\])(:(?P<port>\d{1,5}))?$"
)


@dataclass(frozen=True)
class Worker:
    """One process of a run.

    Attributes:
        rank: its number; 0 writes the run's files.
        host: name or address at which all others reach it.
        port: where TensorFlow listens for them.
    """

    rank: int
    host: str
    port: int

    @property
    def address(self) -> str:
        """host:port as TensorFlow takes it."""
        return f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether only the machine itself reaches it."""
        if self.host.lower() == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False

    @property
    def local(self) -> bool:
        """Whether it is on this machine, and started without ssh."""
        return self.loopback or self.host in (socket.gethostname(), socket.getfqdn())

    def __str__(self) -> str:
        return f"worker {self.rank} ({self.address})"


def read_hosts(path: Path | str, port: int = DEFAULT_PORT) -> list[Worker]:
    """The workers a file lists: `host` or `host:port` a line, `#` starts a comment.

    A host that is listed twice has two workers.

    Args:
        port: of the first worker on a host without a port; later ones there count up.

    Raises:
        ConfigError: the file cannot be read or used.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"Cannot read the hosts list {path}: {reason}.") from None
    found: list[tuple[str, int | None]] = []
    for number, line in enumerate(text.splitlines(), 1):
        entry = line.partition("#")[0].strip()
        if not entry:
            continue
        match = _LINE.match(entry)
        if match is None:
            raise ConfigError(
                f"{path}, line {number}: {entry!r} is not host or host:port; write one worker a "
                "line, a host twice for two workers."
            )
        given = match["port"] and int(match["port"])
        if given is not None and not 0 < given < 65536:
            raise ConfigError(f"{path}, line {number}: port {given} must be from 1 to 65535.")
        found.append((match["host"], given))
    if not found:
        raise ConfigError(f"The hosts list {path} names no host; write host or host:port a line.")
    taken = {entry for entry in found if entry[1]}
    workers = []
    for rank, (host, given) in enumerate(found):
        if given is None:
            given = port
            while (host, given) in taken:
                given += 1
            taken.add((host, given))
        workers.append(Worker(rank, host, given))
    _check(workers, path)
    return workers


def _check(workers: Sequence[Worker], path: Path | str) -> None:
    (address, times), *_ = Counter(worker.address for worker in workers).most_common(1)
    if times > 1:
        raise ConfigError(f"{path} lists {address} {times} times; give each worker its own port.")
    inner = [worker for worker in workers if worker.loopback]
    if inner and len(inner) < len(workers):
        raise ConfigError(
            f"{path} lists {inner[0].host} beside other hosts, which cannot reach it; give this "
            "machine the name that the others use."
        )


def tf_config(workers: Sequence[Worker], rank: int) -> str:
    """The value of `TF_CONFIG` for one worker.

    Raises:
        ConfigError: there is no such worker.
    """
    if not 0 <= rank < len(workers):
        raise ConfigError(
            f"Rank {rank} is not in the hosts list, whose workers are 0 to {len(workers) - 1}."
        )
    cluster = {"worker": [worker.address for worker in workers]}
    return json.dumps({"cluster": cluster, "task": {"type": "worker", "index": rank}})
