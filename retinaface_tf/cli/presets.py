"""`retinaface-tf presets`."""

from __future__ import annotations

from typing import Annotated

import typer


def presets(
    name: Annotated[
        str | None, typer.Argument(help="Print this network's anchors and cost instead.")
    ] = None,
    size: Annotated[int, typer.Option(help="Side of the image the cost is of.")] = 640,
) -> None:
    """List the named networks, where their weights come from and what was measured with them."""
    if name is not None:
        _print_cost(name, size)
        return
    from rich.console import Console
    from rich.table import Table

    from retinaface_tf.presets import get_preset, list_presets

    table = Table("preset", "what it is", "weights and licence", "measured")
    for name in list_presets():
        preset = get_preset(name)
        source = preset.source
        table.add_row(
            name,
            preset.summary,
            f"{source.origin}: {source.licence}" if source else "none",
            "\n".join(f"{what}: {value}" for what, value in preset.figures()),
        )
    Console().print(table)


def _print_cost(name: str, size: int) -> None:
    from rich.console import Console
    from rich.table import Table

    from retinaface_tf.geometry.anchors import level_shapes
    from retinaface_tf.models.cost import PARTS, network_cost
    from retinaface_tf.presets import get_preset

    config = get_preset(name).config
    size = -(-size // config.max_stride) * config.max_stride
    console = Console()
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
