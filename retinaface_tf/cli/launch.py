"""`retinaface-tf launch`."""

import shlex
import signal
from pathlib import Path
from typing import Annotated

import typer


def launch(
    hosts: Annotated[
        Path, typer.Option(help="File with host or host:port a line; # starts a comment.")
    ],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="-- TRAIN OPTIONS", help="What `retinaface-tf train` gets."),
    ] = None,
    port: Annotated[int, typer.Option(help="First port of a host whose line names none.")] = 12345,
    restarts: Annotated[
        int, typer.Option(min=0, help="How often all are started again after one was lost.")
    ] = 0,
    ssh: Annotated[
        str, typer.Option(help="Command that reaches a host.")
    ] = "ssh -o BatchMode=yes -o ConnectTimeout=10",
    python: Annotated[
        str | None, typer.Option(help="Interpreter on the hosts; by default as here.")
    ] = None,
    folder: Annotated[
        str | None, typer.Option(help="Working folder on the hosts; by default as here.")
    ] = None,
    env: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A variable for all workers.")
    ] = None,
    rank: Annotated[
        int | None,
        typer.Option(help="Be this worker, here, and start no other: for SLURM, Kubernetes."),
    ] = None,
    print_: Annotated[
        bool, typer.Option("--print", help="Only print each host's command.")
    ] = False,
) -> None:
    """Train on several hosts: start a worker on each, stop all when one ends, start again.

    Hosts of this machine (localhost, its own name) are started here, others by ssh. Each needs
    this package in the same version, the data, and the same --out in a shared folder.
    """
    import os

    from retinaface_tf.errors import ConfigError
    from retinaface_tf.launch.command import (
        WorkerEnvironment,
        parse_environment,
        training_command,
    )
    from retinaface_tf.launch.hosts import read_hosts
    from retinaface_tf.launch.launcher import launch as run
    from retinaface_tf.util.files import reason_of
    from retinaface_tf.util.process import to_stderr

    workers = read_hosts(hosts, port)
    given = {"python": python, "folder": folder, "ssh": shlex.split(ssh)}
    environment = WorkerEnvironment(
        variables=parse_environment(env or []), **{k: v for k, v in given.items() if v}
    )
    command = training_command(environment.python, arguments or [])
    if print_:
        for worker in workers:
            print(f"# {worker}")
            print(environment.shell_line(workers, worker.rank, command))
        return
    if rank is not None:
        variables = environment.local_variables(workers, rank)
        try:
            os.chdir(environment.folder)
            os.execvpe(command[0], command, variables)
        except OSError as failure:
            place = f"{command[0]} in the folder {environment.folder}"
            raise ConfigError(f"Cannot start {place}: {reason_of(failure)}.") from None

    def interrupt(*_):
        raise KeyboardInterrupt

    # A scheduler's SIGTERM stops the workers as Ctrl-C does.
    signal.signal(signal.SIGTERM, interrupt)
    run(
        workers,
        command,
        environment,
        restarts=restarts,
        write=to_stderr,
    )
