"""The figures of a run as Markdown, and whether the goals were met."""

from __future__ import annotations

from benchmarks.peers.table import milliseconds, percent, table

BEGIN, END = "<!-- figures: written by benchmarks/own_weights.py -->", "<!-- end of figures -->"
DETECTION, POINTS = ("wider", "wider416", "fddb"), ("crops", "dlib")
SIZES = {"640": "640", "own": "own size"}

# What the weights are to reach.
FDDB_LEAST, TIME_MOST, INT8_LOSS = 0.99, 0.6, 0.005


def figures(run: dict) -> str:
    """All tables of a run.

    Args:
        run: {"date", "machine", "command", "sets": {key: {"title", "images", "faces"}},
            "rows": [{"key", "name", "bytes", "ap": {set: {size: AP}}, "points": {set: {"faces",
            "found", "nme", "failures"}}, "network_ms", "end_to_end_ms"}], "failures": [lines]} as
            `own-weights.json` has it; the first row is the public network's.
    """
    parts = [
        f"Run of {run['date']}: {run['machine']}.",
        f"```bash\n{run['command']}\n```",
        precision_table(run),
        points_table(run),
        cost_table(run["rows"]),
    ]
    reached = goals(run["rows"])
    if reached:
        parts.append("\n".join(f"- {line}" for line in reached))
    if run.get("failures"):
        parts.append("Worst failures of ours at 640, score from 0.5:")
        parts.append("\n".join(f"- {line}" for line in run["failures"]))
    return "\n\n".join(parts)


def precision_table(run: dict) -> str:
    """AP of everybody on every set."""
    columns = [(key, size) for key in DETECTION for size in SIZES]
    head = ["AP at IoU 0.5"]
    for key, size in columns:
        entry = run["sets"][key]
        head.append(f"{entry['title']} ({entry['images']}), {SIZES[size]}")
    rows = [
        [row["name"], *(share(row["ap"].get(key, {}).get(size)) for key, size in columns)]
        for row in run["rows"]
    ]
    return table(head, rows)


def points_table(run: dict) -> str:
    """Landmark errors of those that give points."""
    head = ["five points"]
    for key in POINTS:
        head += [f"{run['sets'][key]['title']}: found", "NME %", "failures %"]
    rows = []
    for row in run["rows"]:
        if not row["points"]:
            continue
        cells = [row["name"]]
        for key in POINTS:
            entry = row["points"][key]
            nme = "–" if entry["nme"] is None else f"{100 * entry['nme']:.2f}"
            found = f"{entry['found']} of {entry['faces']}"
            cells += [found, nme, percent(entry["failures"])]
        rows.append(cells)
    return table(head, rows)


def cost_table(rows: list[dict]) -> str:
    """Times beside the public network's, and the files' sizes."""
    head = ["one thread, 640x640", "network ms", "ratio", "end to end ms", "ratio", "file MB"]
    body = []
    for row in rows:
        cells = [row["name"]]
        for name in ("network_ms", "end_to_end_ms"):
            first, value = rows[0].get(name), row.get(name)
            ratio = f"{value / first:.2f}" if value and first else "–"
            cells += [milliseconds(value), ratio]
        body.append([*cells, f"{row['bytes'] / 1e6:.2f}"])
    return table(head, body)


def goals(rows: list[dict]) -> list[str]:
    """Which goals ours reach, a line each; those that cannot be judged are left out."""
    by_key = {row["key"]: row for row in rows}
    public, rival = by_key.get("public"), by_key.get("yunet")
    ours, small = by_key.get("float32"), by_key.get("int8")
    lines = []

    def say(what: str, value, limit, good: bool, show=share) -> None:
        lines.append(f"{'Met' if good else '**Not met**'}: {what}: {show(value)}, {show(limit)}.")

    if ours and rival:
        for key, name in (("wider", "WIDER"), ("wider416", "WIDER 416")):
            value, limit = ours["ap"][key]["640"], rival["ap"][key]["640"]
            say(f"AP on {name} at 640, at least YuNet's", value, limit, value >= limit)
    if ours:
        value = ours["ap"]["fddb"]["640"]
        say("AP on FDDB at 640, at least", value, FDDB_LEAST, value >= FDDB_LEAST)
    if ours and small:
        for key, name in zip(DETECTION, ("WIDER", "WIDER 416", "FDDB")):
            loss = ours["ap"][key]["640"] - small["ap"][key]["640"]
            what = f"what int8 loses on {name} at 640, at most"
            say(what, loss, INT8_LOSS, loss <= INT8_LOSS)
    if ours and public and ours.get("network_ms") and public.get("network_ms"):
        ratio = ours["network_ms"] / public["network_ms"]
        say(
            "network's time over the public one's, at most",
            ratio,
            TIME_MOST,
            ratio <= TIME_MOST,
            lambda v: f"{v:.2f}",
        )
    if ours and public:
        for key, name in (("crops", "the crops"), ("dlib", "dlib's photos")):
            value, limit = ours["points"][key]["nme"], public["points"][key]["nme"]
            if value is not None and limit is not None:
                say(
                    f"NME on {name}, at most the public weights'",
                    value,
                    limit,
                    value <= limit,
                    lambda v: f"{100 * v:.2f} %",
                )
    return lines


def share(value: float | None) -> str:
    """Three digits, a dash where there is none."""
    return "–" if value is None else f"{value:.3f}"
