"""`retinaface-tf serve`."""

from pathlib import Path
from typing import Annotated

import typer


def serve(
    model: Annotated[
        Path, typer.Option(help="Folder of the model, as `export savedmodel` writes it.")
    ],
    name: Annotated[
        str | None,
        typer.Option(help="Name of the model for clients; without it the folder's name."),
    ] = None,
    host: Annotated[
        str,
        typer.Option(help="Address to listen on; the default is reached from this machine only."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of gRPC; 0 takes a free one.")] = 8500,
    rest_port: Annotated[
        int, typer.Option(help="Port of REST, page and metrics; 0 takes a free one, -1 none.")
    ] = 8501,
    batching: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="TF-Serving's batching parameters; without, none."),
    ] = None,
    versions: Annotated[str, typer.Option(help="Serve the 'latest' version or 'all'.")] = "latest",
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VERSION", help="A name for a version, such as canary=2."),
    ] = None,
    poll_seconds: Annotated[
        float, typer.Option(help="Seconds between checks for new versions; 0 checks once.")
    ] = 1.0,
    threads: Annotated[int, typer.Option(help="Cores that TensorFlow may use; 0 for all.")] = 0,
    run_threads: Annotated[
        int,
        typer.Option(
            help="Requests from one address that run at the same time where none are batched; 0 for one per core."
        ),
    ] = 0,
    max_images: Annotated[int, typer.Option(min=1, help="Most images of a request.")] = 32,
    max_request_mb: Annotated[int, typer.Option(help="Megabytes of the largest request.")] = 64,
    max_pending_mb: Annotated[
        int, typer.Option(help="Megabytes of all accepted requests that wait for their answer.")
    ] = 512,
    read_seconds: Annotated[
        float,
        typer.Option(
            min=0.1, help="Seconds in which the head of a request must arrive, then its body."
        ),
    ] = 30.0,
    run_seconds: Annotated[
        float, typer.Option(min=0.1, help="Seconds the model may take for a request or batch.")
    ] = 120.0,
    return_memory: Annotated[
        bool, typer.Option(hidden=True, help="Ignored: memory always goes back.")
    ] = False,
    tls_certificate: Annotated[Path | None, typer.Option(help="PEM file.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file.")] = None,
    auth_token_file: Annotated[
        Path | None,
        typer.Option(help="File with a token; callers send 'authorization: Bearer TOKEN'."),
    ] = None,
) -> None:
    """Serve a model on this machine with TF-Serving's interfaces: gRPC, REST, and a page.

    For development and tests; production runs the image `tensorflow/serving`, see the folder
    serving/ of the checkout.
    """
    import asyncio
    import logging
    import os
    import sys

    from retinaface_tf.errors import ConfigError
    from retinaface_tf.util.extras import require
    from retinaface_tf.util.process import available_cores, keep_freed_memory

    if versions not in ("latest", "all"):
        raise ConfigError(f"--versions is {versions!r}; choose latest or all.")
    require("serving", for_="The server")
    # The allocator that comes with oneDNN keeps all it ever took.
    os.environ.setdefault("TF_ONEDNN_USE_SYSTEM_ALLOCATOR", "1")
    keep_freed_memory()
    from retinaface_tf.serving.batching import BatchingParameters, read_batching_file
    from retinaface_tf.serving.core import Limits
    from retinaface_tf.serving.server import ServerOptions
    from retinaface_tf.serving.server import serve as run

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    options = ServerOptions(
        folder=model,
        name=name,
        host=host,
        port=port,
        rest_port=rest_port,
        batching=read_batching_file(batching)
        if batching
        else BatchingParameters(num_batch_threads=run_threads or available_cores()),
        limits=Limits(
            request_images=max_images,
            request_bytes=max_request_mb << 20,
            pending_bytes=max_pending_mb << 20,
            read_seconds=read_seconds,
            run_seconds=run_seconds,
        ),
        policy=versions,
        labels=_labels(label or []),
        poll_seconds=poll_seconds,
        threads=threads,
        tls_certificate=tls_certificate,
        tls_key=tls_key,
        auth_token_file=auth_token_file,
    )

    def announce(server) -> None:
        rest = f", page and REST http://{host}:{server.rest_port}" if server.rest_port else ""
        print(f"serving {server.name!r}: gRPC {host}:{server.port}{rest}", flush=True)
        print("for development; production runs the image tensorflow/serving", file=sys.stderr)

    asyncio.run(run(options, announce))


def _labels(texts: list[str]) -> dict[str, int]:
    from retinaface_tf.errors import ConfigError

    labels = {}
    for text in texts:
        name, _, version = text.partition("=")
        if not name or not version.isdigit():
            raise ConfigError(f"--label {text!r} is not understood: give NAME=VERSION.")
        labels[name] = int(version)
    return labels
