"""`retinaface-tf presets`."""

from __future__ import annotations


def presets() -> None:
    """List the named networks, where their weights come from and what was measured with them."""
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
            f"{source.package} {source.version}: {source.licence}" if source else "none",
            "\n".join(f"{what}: {value}" for what, value in preset.measured),
        )
    Console().print(table)
