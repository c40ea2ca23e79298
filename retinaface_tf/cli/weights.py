"""`retinaface-tf weights`: list, pull and convert trained weights."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from retinaface_tf.cli.options import Overwrite

app = typer.Typer(help="List, pull and convert trained weights.", no_args_is_help=True)


@app.command("list")
def list_weights(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Show which trained weights there are, whether they are here, their size and licence."""
    import json

    from rich import box
    from rich.console import Console
    from rich.table import Table

    from retinaface_tf.presets import get_preset, list_presets
    from retinaface_tf.util.cache import cache_folder
    from retinaface_tf.weights.choose_file import weights_path

    rows, sizes = [], []
    for name in list_presets():
        source = get_preset(name).source
        if source is None:
            continue
        path = weights_path(name)
        here = path.is_file()
        packaged = source.file("weights") is not None
        sizes.append(f"{path.stat().st_size / 1e6:.1f}" if here else source.how_large)
        rows.append(
            {
                "preset": name,
                "here": "in this package" if packaged else "yes" if here else "no",
                "bytes": path.stat().st_size if here else None,
                "licence": source.licence,
                "from": source.origin,
                "path": str(path) if here else None,
            }
        )
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    # A pipe has no width to fold into; the table takes what it needs.
    console = Console() if sys.stdout.isatty() else Console(width=1000)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for title in ("preset", "here"):
        table.add_column(title, no_wrap=True)
    table.add_column("MB", justify="right", no_wrap=True)
    table.add_column("licence", no_wrap=True)
    table.add_column("from", overflow="fold")
    for row, size in zip(rows, sizes):
        here = "no" if row["path"] is None else "yes"
        table.add_row(row["preset"], here, size, row["licence"].partition(" (")[0], row["from"])
    console.print(table)
    print(f"cache folder: {cache_folder()}", file=sys.stderr)


@app.command("pull")
def pull_weights(
    name: Annotated[str, typer.Argument(help="Preset, see `weights list`.")],
    given: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="The file, downloaded by you elsewhere."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Fetch again what is cached.")] = False,
) -> None:
    """Fetch a preset's weights once, check them, convert them and cache them.

    A download that breaks goes on where it stopped. The variable RETINAFACE_TF_MIRROR names an address
    or a folder to look in first. Presets whose weights come with this package need none of that.
    """
    from retinaface_tf.util.process import to_stderr
    from retinaface_tf.weights.choose_file import pull

    path = pull(name, given=given, force=force, notify=to_stderr)
    print(path)


@app.command("convert")
def convert_weights_file(
    source: Annotated[
        Path, typer.Argument(help="PyTorch .pth, .onnx, .keras or .weights.h5 file.")
    ],
    output: Annotated[Path, typer.Argument(help="File to write, NAME.weights.h5.")],
    preset: Annotated[str, typer.Option(help="The network the file was trained with.")],
    overwrite: Overwrite = False,
) -> None:
    """Convert another program's weights of a preset's network into our own format."""
    from retinaface_tf.errors import WeightsError
    from retinaface_tf.presets import get_preset
    from retinaface_tf.util.extras import require
    from retinaface_tf.util.files import require_free
    from retinaface_tf.weights.hdf5 import SUFFIX
    from retinaface_tf.weights.load import require_file

    require("export", for_="Converting weights")
    known = get_preset(preset)
    require_file(source)
    # Known before the seconds that converting takes.
    if not output.name.endswith(SUFFIX):
        raise WeightsError(f"Cannot write {output}: give a name that ends in {SUFFIX}.")
    require_free(output, [source], overwrite=overwrite)
    from retinaface_tf.weights.convert.convert import convert_weights
    from retinaface_tf.weights.hdf5 import save_weights

    network = convert_weights(source, known.config, known.trained_on)
    save_weights(network, output)
    count = len(network.weights)
    print(f"{output}: {count} weights of a {known.config.backbone} network", file=sys.stderr)
