"""This side of the protocol: a peer's process, started with one thread, asked line by line."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
from pathlib import Path

from benchmarks.peers.listing import Peer

ADAPTERS = Path(__file__).resolve().parent / "adapters"
# Each library's own word for one thread; the adapters set what can only be set from Python.
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
}


class PeerError(Exception):
    """A peer did not answer, or answered with an error."""


class Asked:
    """A running peer.

    Args:
        peer: who.
        python: of its environment.
        log: file for what it prints.
        core: the one core the process may run on; None for any.
    """

    patience = 240.0

    def __init__(self, peer: Peer, python: str, log: Path, core: int | None = None):
        options = json.dumps(peer.options)
        log.parent.mkdir(parents=True, exist_ok=True)
        self.peer, self._log = peer, log.open("a")
        environment = {**os.environ, **ONE_THREAD}
        # Neither this checkout's modules instead of the installed ones, nor compiling at every start.
        for name in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE"):
            environment.pop(name, None)
        self._process = subprocess.Popen(
            [python, str(ADAPTERS / peer.adapter), options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment,
            preexec_fn=None if core is None else lambda: os.sched_setaffinity(0, {core}),
        )

    def ask(self, do: str, **request) -> dict:
        """One request, one answer.

        Raises:
            PeerError: it ended, answered with an error, or not within `patience` seconds.
        """
        late = threading.Event()

        def give_up() -> None:
            late.set()
            self._process.kill()

        patience = threading.Timer(self.patience, give_up)
        patience.start()
        try:
            self._process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            patience.cancel()
        if not line:
            code = self._process.wait()
            if late.is_set():
                raise PeerError(f"no answer in {self.patience:g} seconds")
            raise PeerError(f"the process ended with {code}; see {self._log.name}")
        answer = json.loads(line)
        if "error" in answer:
            raise PeerError(answer["error"])
        return answer

    def close(self) -> None:
        """Ends the process."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def __enter__(self) -> Asked:
        return self

    def __exit__(self, *_) -> None:
        self.close()
