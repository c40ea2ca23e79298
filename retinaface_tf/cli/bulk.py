"""Options of bulk runs: `retinaface-tf detect --engine`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer


@dataclass(frozen=True, kw_only=True)
class BulkOptions:
    """Options of a bulk run; None where an option is not given."""

    engine: Annotated[
        str | None,
        typer.Option(
            metavar="processes|ray|loop",
            help="Search many images, tars and Parquet tables into Parquet files; see --out.",
        ),
    ] = None
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder of an engine's results; give it again to resume a run."
        ),
    ] = None
    workers: Annotated[
        int | None, typer.Option(help="An engine's processes or actors; without it, one per core.")
    ] = None
    shard_size: Annotated[
        int | None,
        typer.Option(help="Images in each file of results, done whole or again; without it, 500."),
    ] = None
    retries: Annotated[
        int | None,
        typer.Option(
            help="How often a shard's workers may crash before the run stops; without it, 3."
        ),
    ] = None
    image_column: Annotated[
        str | None, typer.Option(help="Column of Parquet tables that holds the images' bytes.")
    ] = None
    name_column: Annotated[
        str | None, typer.Option(help="Column of Parquet tables that names the images.")
    ] = None
    ray_address: Annotated[
        str | None,
        typer.Option(
            help="Of a Ray cluster: ray://HOST:10001, HOST:6379 or auto; local starts one."
        ),
    ] = None
    gpus_per_worker: Annotated[
        float | None, typer.Option(help="GPUs, or a part of one, that each Ray actor gets.")
    ] = None

    def require_none(self, inputs: list[str]) -> None:
        """Refuses what a plain `detect`, without an engine, cannot do.

        Raises:
            ConfigError: one of the options was given, or an input is a tar or table.
        """
        from retinaface_tf.errors import ConfigError
        from retinaface_tf.images.listing import is_packed

        for name, value in vars(self).items():
            if value is not None:
                option = "--" + name.replace("_", "-")
                raise ConfigError(f"{option} needs an engine: add --engine processes, or ray.")
        for given in inputs:
            if is_packed(given):
                raise ConfigError(
                    f"{given} holds many images: read it with --engine processes --out DIR."
                )

    def run(self, inputs: list[str], refused: dict[str, Any], **options: Any) -> None:
        """The bulk run; prints what was found, and exits with 1 where an image failed.

        Args:
            inputs: of the command.
            refused: options that do not go with an engine, and their values.
            options: of `detect_bulk`.

        Raises:
            ConfigError: one of those was given, or --out was not.
        """
        from retinaface_tf.bulk import detect_bulk
        from retinaface_tf.errors import ConfigError
        from retinaface_tf.images.video import is_video

        for name, given in refused.items():
            if given is not None:
                raise ConfigError(
                    f"{name} does not go with --engine, which writes Parquet to --out."
                )
        for given in filter(is_video, inputs):
            raise ConfigError(f"{given} is a video: search it without --engine.")
        if self.out is None:
            raise ConfigError("--engine needs --out DIR, the folder of its results.")
        given = {name: value for name, value in vars(self).items() if value is not None}
        report = detect_bulk(inputs, given.pop("out"), **given, **options)
        before = f" ({report.resumed} were there already)" if report.resumed else ""
        failed = f", {report.errors} unreadable" if report.errors else ""
        print(
            f"{report.faces} face{'s' * (report.faces != 1)} in {report.images - report.errors} "
            f"image{'s' * (report.images - report.errors != 1)}{failed}; "
            f"{report.shards} file{'s' * (report.shards != 1)} in {self.out}{before}"
        )
        if report.errors:
            raise typer.Exit(1)
