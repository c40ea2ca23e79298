"""`retinaface-tf presets`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from retinaface_tf.errors import MissingPackage

if TYPE_CHECKING:
    from retinaface_tf.presets import Preset


_HARD = (
    "AP hard: WIDER FACE's validation set, hard faces, at original size / short edge 1600, as those who "
    "trained the weights publish it."
)


def presets(
    name: Annotated[
        str | None, typer.Argument(help="Print all about this network, its anchors and cost.")
    ] = None,
    size: Annotated[int, typer.Option(help="Side of the image the cost is of.")] = 640,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, with every figure and address.")
    ] = False,
) -> None:
    """List the named networks: size, work, published accuracy and licence of their weights."""
    import json

    from retinaface_tf.presets import get_preset, list_presets

    chosen = [get_preset(each) for each in ([name] if name is not None else list_presets())]
    if as_json:
        print(json.dumps([_facts(preset) for preset in chosen], indent=1))
    elif name is not None:
        _print_facts(chosen[0])
        try:
            _print_cost(name, size)
        except MissingPackage as error:
            print(f"note: {error}", file=sys.stderr)
    else:
        _print_table(chosen)


def _facts(preset: Preset) -> dict[str, Any]:
    source = preset.source
    return {
        "name": preset.name,
        "entry": preset.entry or None,
        "summary": preset.summary,
        "parameters_million": preset.parameters,
        "gmac_at_640": preset.gmac,
        "published": dict(preset.published),
        "measured": dict(preset.figures()[len(preset.published) :]),
        "network": preset.config.to_dict(),
        "weights": source
        and {
            "origin": source.origin,
            "licence": source.licence,
            "sha256": source.digest,
            "addresses": list(getattr(source, "urls", ())),
            "homepage": getattr(source, "homepage", None),
            "colour_order": preset.trained_on.order,
            "mean_rgb": list(preset.config.pixel_mean),
            "deviation_rgb": list(preset.trained_on.deviation),
        },
    }


def _print_table(chosen: list[Preset]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console()
    wide = console.width >= 120
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("preset", "licence"):
        table.add_column(title, no_wrap=True)
    for title in ("million\nparameters", "GMAC\nat 640", "AP hard"):
        table.add_column(title, justify="right", no_wrap=True)
    if wide:
        table.add_column("what it is")
    for preset in chosen:
        licence = preset.source.licence.partition(" (")[0] if preset.source else "no weights"
        row = [preset.name, licence, f"{preset.parameters:.3f}", f"{preset.gmac:.2f}"]
        table.add_row(*row, preset.hard_ap, *([preset.summary] if wide else []))
    console.print(table)
    console.print(_HARD, soft_wrap=False, style="dim")
    console.print("`retinaface-tf presets NAME` shows more about one.", style="dim")


def _print_facts(preset: Preset) -> None:
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    name = f"{preset.name}.{preset.entry}" if preset.entry else preset.name
    console.print(f"{name}: {preset.summary}")
    if preset.source:
        console.print(*preset.source.describe(), sep="\n")
    for what, value in preset.published:
        console.print(f"published: {what}: {value}")
    for what, value in preset.figures()[len(preset.published) :]:
        console.print(f"measured here: {what}: {value}")
    console.print()


def _print_cost(name: str, size: int) -> None:
    from rich.console import Console
    from rich.table import Table

    from retinaface_tf.geometry.anchors import level_shapes
    from retinaface_tf.models.cost import PARTS, network_cost
    from retinaface_tf.presets import get_preset

    config = get_preset(name).config
    size = -(-size // config.max_stride) * config.max_stride
    console = Console(highlight=False)
    anchors = Table("level", "stride", "map", "anchor sizes", "anchors", "share")
    shapes = level_shapes(config.levels, size, size)
    counts = [r * c * len(l.anchor_sizes) for (r, c), l in zip(shapes, config.levels)]
    for level, (rows, columns), count in zip(config.levels, shapes, counts):
        sizes = " / ".join(f"{side:.5g}" for side in level.anchor_sizes)
        share = f"{count / sum(counts):.1%}"
        map_size = f"{rows}x{columns}"
        anchors.add_row(f"P{level.index}", str(level.stride), map_size, sizes, f"{count:,}", share)
    anchors.add_row("total", "", "", "", f"{sum(counts):,}", "")
    console.print(f"{name} at {size}x{size}")
    console.print(anchors)

    costs = network_cost(config, size, size)
    table = Table("part", "level", "parameters", "GFLOP")
    for part in PARTS:
        for (owner, level), cost in costs.items():
            if owner == part:
                where = f"stride {1 << level}" if level else "shared"
                table.add_row(part, where, f"{cost.parameters:,}", f"{cost.flops / 1e9:.2f}")
    parameters = sum(cost.parameters for cost in costs.values())
    flops = sum(cost.flops for cost in costs.values())
    table.add_row("total", "", f"{parameters:,}", f"{flops / 1e9:.2f}")
    console.print(table)
