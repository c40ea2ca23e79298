"""Takes in connections, of no address more than its share."""

import asyncio
import contextlib
import itertools
import socket
import ssl
from collections.abc import Callable

from retinaface_tf.serving.budget import Budget

# Taken in at a time, so that a thousand new ones keep nobody waiting; and how many may wait.
AT_ONCE, BACKLOG = 16, 1024
# Pause where the process may open no more files.
PAUSE_SECONDS = 0.5


class Listener:
    """Accepts connections for protocols of asyncio.

    asyncio's own server makes a transport, a task and, under TLS, a handshake for each connection before
    a protocol can refuse it. Here one beyond the share of its address is closed at once.

    Args:
        protocol: makes one for a connection; called with a function that it calls once that is lost.
        budget: of connections.
        tls: None for plain text.
        handshake_seconds: that TLS may take to begin.
    """

    def __init__(
        self,
        protocol: Callable[[Callable[[], object]], asyncio.Protocol],
        budget: Budget,
        tls: ssl.SSLContext | None,
        handshake_seconds: float,
    ):
        self._protocol, self._budget = protocol, budget
        self._tls, self._handshake_seconds = tls, handshake_seconds
        self._sockets: list[socket.socket] = []
        self._accepting: list[asyncio.Task] = []
        self._tasks: set[asyncio.Task] = set()  # of the connections

    async def open(self, host: str, port: int) -> int:
        """Listens on all addresses of a host; returns the port.

        Raises:
            OSError: it is taken.
        """
        loop = asyncio.get_running_loop()
        bound = await loop.create_server(asyncio.Protocol, host, port, start_serving=False)
        self._sockets = [one.dup() for one in bound.sockets]
        bound.close()
        for one in self._sockets:
            one.setblocking(False)
            one.listen(BACKLOG)
        self._accepting = [asyncio.ensure_future(self._accept(one)) for one in self._sockets]
        return self._sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Takes in no more; those taken in stay."""
        for task in self._accepting:
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        for one in self._sockets:
            one.close()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        for count in itertools.count(1):
            if not count % AT_ONCE:
                await asyncio.sleep(0)
            try:
                connection, (address, *_) = await loop.sock_accept(listening)
            except ConnectionError:  # gone already
                continue
            except OSError:  # too many open files
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            if self._budget.take(address):
                task = loop.create_task(self._serve(connection, address))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            else:
                connection.close()

    async def _serve(self, connection: socket.socket, address: str) -> None:
        lost = asyncio.Event()
        try:
            with contextlib.suppress(OSError):  # TLS failed, or the other side has gone
                await asyncio.get_running_loop().connect_accepted_socket(
                    lambda: self._protocol(lost.set),
                    connection,
                    ssl=self._tls,
                    ssl_handshake_timeout=self._handshake_seconds if self._tls else None,
                )
                await lost.wait()
        finally:
            self._budget.give_back(address)
