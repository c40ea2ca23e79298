"""`retinaface-tf train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retinaface_tf.errors import ConfigError


def train(
    config: Annotated[
        str | None,
        typer.Option(
            help="configuration: a .toml or .json file, or a name such as lite or wider_resnet50"
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="folder of photos and labels, or a label file; or the kind of what --root holds: "
            "synthetic, wider, retinaface, fddb, coco, json, yolo, labelme, voc, records or mesh-labels"
        ),
    ] = None,
    finetune: Annotated[
        str | None,
        typer.Option(
            metavar="PRESET", help="train this preset, or weights file, further on --data"
        ),
    ] = None,
    root: Annotated[Path | None, typer.Option(help="folder of the data set")] = None,
    out: Annotated[Path, typer.Option(help="folder for weights, logs, checkpoints")] = Path(
        "runs/train"
    ),
    epochs: Annotated[int | None, typer.Option(help="passes through the training set")] = None,
    batch: Annotated[int | None, typer.Option(help="images in a step, all devices")] = None,
    devices: Annotated[int | None, typer.Option(help="devices to use; 0 for every GPU")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="any option, such as schedule.peak=0.02"),
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="remove what an earlier run left in --out")
    ] = False,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="go on with the run in --out, without its options again"),
    ] = False,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="stop where the average precision falls or the loss explodes"
        ),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress bars")] = False,
    engine: Annotated[
        str,
        typer.Option(help="who starts workers on several machines: none, ray or slurm"),
    ] = "none",
    workers: Annotated[int, typer.Option(help="workers on the Ray cluster")] = 1,
    ray_address: Annotated[
        str | None, typer.Option(help="the cluster: HOST:6379 or auto; by default $RAY_ADDRESS")
    ] = None,
    restarts: Annotated[
        int, typer.Option(help="how often Ray starts all workers again after one was lost")
    ] = 3,
    import_: Annotated[
        list[str] | None,
        typer.Option(
            "--import",
            metavar="MODULE|FILE.py",
            help="import a module that registers a backbone, reader or loss of yours; repeatable",
        ),
    ] = None,
) -> None:
    """Train a detector; without options, on drawn faces, in a few minutes.

    The same command continues an interrupted run.
    """
    from retinaface_tf.training.command import Engine, resolve_config, resumed_config, run
    from retinaface_tf.util.registry import import_modules

    import_modules(import_ or ())
    chosen = Engine(name=engine, workers=workers, address=ray_address, restarts=restarts)
    options = {
        "data.kind": data,
        "data.root": str(root) if root else None,
        "epochs": epochs,
        "data.batch": batch,
        "devices": devices,
    }
    if resume and (config or data or finetune or restart):
        raise ConfigError(
            "--resume takes the run in --out as it is, with --epochs and --set alone."
        )
    if resume:
        found = resumed_config(out, options, set_ or [])
    else:
        found = resolve_config(config, options, set_ or [], finetune=finetune)
    run(found, out, restart=restart, quiet=quiet, strict=strict, engine=chosen)


def launch(context: typer.Context) -> None:
    """Say what took the place of `launch`."""
    raise ConfigError(
        "`launch` is gone: `retinaface-tf train --engine ray --workers N` trains on a Ray cluster, "
        "--engine slurm under srun, and TF_CONFIG anywhere; see docs/multi-worker.md."
    )
