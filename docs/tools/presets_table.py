"""The model zoo's table of presets, made from the code."""

from __future__ import annotations


def presets_table() -> str:
    """A row for each preset: what the network is, what it costs, where its weights come from."""
    from retinaface_tf.models.cost import network_cost
    from retinaface_tf.presets import get_preset, list_presets

    lines = [
        "| preset | what it is | levels, anchors | parameters | GFLOP | weights |",
        "|---|---|---|--:|--:|---|",
    ]
    measured = []
    for name in list_presets():
        preset = get_preset(name)
        config, source = preset.config, preset.source
        costs = network_cost(config, 640, 640).values()
        first, last = config.levels[0], config.levels[-1]
        sizes = sum(len(level.anchor_sizes) for level in config.levels)
        lines.append(
            f"| `{name}` | {preset.summary} | P{first.index}..P{last.index}, {sizes} sizes "
            f"| {sum(cost.parameters for cost in costs):,} "
            f"| {sum(cost.flops for cost in costs) / 1e9:.2f} "
            f"| {f'{source.origin}, {source.licence}' if source else 'none'} |"
        )
        measured += [f"| `{name}` | {what} | {value} |" for what, value in preset.figures()]
    return "\n".join([*lines, "", "| preset | measured here | |", "|---|---|--:|", *measured])
