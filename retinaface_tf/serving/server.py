"""The local server: TF-Serving's interfaces around one model, for development and tests.

Production runs `tensorflow/serving`, the C++ server; see the `serving/` folder of the checkout.
"""

import asyncio
import contextlib
import gc
import logging
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from retinaface_tf.errors import ServingError
from retinaface_tf.serving.batching import BatchingParameters
from retinaface_tf.serving.budget import Budget
from retinaface_tf.serving.core import Core, Limits
from retinaface_tf.serving.listener import Listener
from retinaface_tf.serving.loaded_model import LoadedModel
from retinaface_tf.serving.metrics import Metrics
from retinaface_tf.serving.repository import Repository, check_folder
from retinaface_tf.serving.secrets import read_tls, read_token
from retinaface_tf.util.process import allow_open_files, give_memory_back

# How long callers still get the answer that the server is stopping, once all others are answered.
LAME_DUCK_SECONDS = 0.5
# Free memory goes back to the system as often as this.
MEMORY_SECONDS = 5.0

logger = logging.getLogger("retinaface_tf.serving")


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """How the server runs.

    Attributes:
        folder: of the model; its entries are version numbers.
        name: that clients call the model by; None takes the folder's.
        host: address to listen on; the default is reached from this machine alone.
        port, rest_port: of gRPC and HTTP; 0 takes free ones, a negative REST port opens none.
        policy: serve the "latest" version or "all".
        labels: names for versions.
        poll_seconds: between searches for new versions; 0 searches once.
        threads: cores TensorFlow may use; 0 for all.
        grace_seconds: for requests under way when the server is stopped.
        tls_certificate, tls_key: PEM files; both or none.
        auth_token_file: holds a token that callers must send; None answers everybody.
    """

    folder: Path
    name: str | None = None
    host: str = "127.0.0.1"
    port: int = 8500
    rest_port: int = 8501
    batching: BatchingParameters = field(default_factory=BatchingParameters)
    limits: Limits = field(default_factory=Limits)
    policy: Literal["latest", "all"] = "latest"
    labels: dict[str, int] = field(default_factory=dict)
    poll_seconds: float = 1.0
    threads: int = 0
    grace_seconds: float = 30.0
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    auth_token_file: Path | None = None


class Server:
    """A server in the running event loop.

    Attributes:
        port, rest_port: those listened on, once started; `rest_port` is None without REST.

    Raises:
        ConfigError: the folder, the TLS files or the token file are not what they should be.
    """

    def __init__(self, options: ServerOptions):
        check_folder(options.folder)
        self.options = options
        self._tls = read_tls(options.tls_certificate, options.tls_key)
        token = read_token(options.auth_token_file)
        self.name = options.name or options.folder.resolve().name
        self.port = self.rest_port = None
        self.repository = Repository(
            options.folder,
            self.name,
            policy=options.policy,
            labels=options.labels,
            threads=options.threads,
            load=partial(LoadedModel, runs=options.batching.threads),
        )
        self.metrics = Metrics(self.name)
        self.core = Core(self.repository, options.batching, options.limits, self.metrics, token)
        self._runner = self._listener = None
        self._background: list[asyncio.Task] = []

    async def start(self) -> None:
        """Loads the model and opens the ports.

        Raises:
            ServingError: no version loads, or a port is taken.
        """
        from grpc_health.v1 import health_pb2

        from retinaface_tf.serving.grpc_services import build_grpc_server

        options = self.options
        allow_open_files()
        await self.repository.refresh()
        if not self.repository.available:
            reasons = [s.error for s in self.repository.statuses.values() if s.error]
            raise ServingError(
                f"No version of {options.folder} could be loaded "
                f"({reasons[0] if reasons else 'there is none'}); "
                "`retinaface-tf export savedmodel` writes one."
            )
        address = f"{options.host}:{options.port}"
        try:
            self._grpc, self.port, self._health = build_grpc_server(
                self.core, self._tls and self._tls.grpc, address
            )
        except RuntimeError:
            raise ServingError(f"Cannot listen on {address}; choose another --port.") from None
        if options.rest_port >= 0:
            await self._start_rest()
        await self._grpc.start()
        for service in ("", self.name, "tensorflow.serving.PredictionService"):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        gc.collect()
        gc.freeze()
        self._background.append(asyncio.ensure_future(self._give_memory_back()))
        if options.poll_seconds:
            watch = self.repository.watch(options.poll_seconds)
            self._background.append(asyncio.ensure_future(watch))

    async def stop(self) -> None:
        """Accepts no new requests, answers the accepted ones, unloads the model."""
        logger.info("stopping: answering the requests under way")
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._health.enter_graceful_shutdown()
        # New calls get UNAVAILABLE while the accepted ones are answered. Only then are the ports
        # closed, since gRPC cancels calls that it has received and not yet passed on.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.core.drain(), self.options.grace_seconds)
        await asyncio.sleep(LAME_DUCK_SECONDS)
        closing = [self._grpc.stop(1.0)]
        if self._listener:
            closing += [self._listener.close(), self._runner.cleanup()]
        await asyncio.gather(*closing)
        self.core.close()
        await self.repository.close()
        gc.unfreeze()

    async def _give_memory_back(self) -> None:
        """Threads free what a large request took, and the C library keeps it for them.

        An error and the frames that it went through hold one another, and with them the request.
        """
        seen = 0
        while True:
            await asyncio.sleep(MEMORY_SECONDS)
            if self.core.answered != seen:
                seen = self.core.answered
                gc.collect()  # takes 1 ms: what stays for ever is frozen
                await asyncio.to_thread(give_memory_back)

    async def _start_rest(self) -> None:
        from aiohttp import web

        from retinaface_tf.serving.rest import Connection, build_rest_app

        options, limits = self.options, self.options.limits
        self._runner = web.AppRunner(
            build_rest_app(self.core),
            handler_cancellation=True,
            shutdown_timeout=options.grace_seconds,
        )
        await self._runner.setup()
        loop = asyncio.get_running_loop()

        def connection(lost: Callable[[], object]) -> Connection:
            return Connection(
                self._runner.server,
                lost=lost,
                seconds=limits.read_seconds,
                loop=loop,
                access_log=None,
                lingering_time=2.0,  # reads on after a refusal, so that the caller sees it
            )

        self._listener = Listener(
            connection,
            Budget(limits.connections),
            self._tls and self._tls.http,
            limits.read_seconds,
        )
        try:
            self.rest_port = await self._listener.open(options.host, options.rest_port)
        except OSError as error:
            raise ServingError(
                f"Cannot listen on {options.host}:{options.rest_port} ({error.strerror}); choose "
                "another --rest-port."
            ) from None


async def serve(options: ServerOptions, announce=lambda server: None) -> None:
    """Runs a server until SIGTERM or SIGINT; a second signal ends it at once.

    Args:
        options: see `ServerOptions`.
        announce: called with the `Server` once it answers.
    """
    server = Server(options)
    await server.start()
    announce(server)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    await stopped.wait()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.remove_signal_handler(number)
    await server.stop()
