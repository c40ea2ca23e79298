"""Accuracy against latency, one point a detector."""

from __future__ import annotations

import math
from io import BytesIO

OURS, OTHERS = "#0072B2", "#D55E00"
PANELS = (
    ("fddb", "FDDB ({subset} photos), AP at IoU 0.5, %"),
    ("wider", "16 photos of WIDER FACE, AP at IoU 0.5, %"),
    ("wider416", "WIDER FACE at 416x416, AP at IoU 0.5, %"),
)


def accuracy_latency_plot(run: dict) -> bytes:
    """PNG: AP of the images as they are over the time of a VGA image with one face.

    Args:
        run: as `table.figures` takes it. Peers without a figure of the panel's set, or without a
            time, are left out.
    """
    from matplotlib.figure import Figure

    panels = [panel for panel in PANELS if panel[0] in run["sets"]]
    figure = Figure(figsize=(4 + 4.5 * len(panels), 5), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    numbers = {}
    for axis, (key, label) in zip(axes, panels):
        points = plot_points(run, key)
        for row, latency, ap in points:
            numbers.setdefault(row["key"], (len(numbers) + 1, row))
            mark = (
                {"marker": "o", "color": OURS} if row["ours"] else {"marker": "s", "color": OTHERS}
            )
            axis.plot(latency, ap, markersize=7, linestyle="none", **mark)
        _number(axis, points, numbers)
        axis.set_xscale("log")
        ticks = [t for t in TICKS if points and _within(t, [p[1] for p in points])]
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.minorticks_off()
        axis.set(
            xlabel="processor ms a VGA image, one thread (log scale)", ylabel=label.format(**run)
        )
        axis.grid(True, color="#dddddd", linewidth=0.6)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    handles = [
        axes[0].plot(
            [],
            [],
            marker="o" if row["ours"] else "s",
            color=OURS if row["ours"] else OTHERS,
            linestyle="none",
            label=f"{number}  {plain(row['name'])}",
        )[0]
        for number, row in numbers.values()
    ]
    if handles:
        figure.legend(handles=handles, loc="outside right center", fontsize=9, frameon=False)
    stream = BytesIO()
    figure.savefig(stream, format="png", dpi=110, metadata={"Software": None})
    return stream.getvalue()


TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)


def plot_points(run: dict, key: str) -> list[tuple[dict, float, float]]:
    """(row, milliseconds, AP in %) of every peer that has both; AP of what everybody searched."""
    points = []
    for row in run["rows"]:
        entry = ((row.get("accuracy") or {}).get(key) or {}).get("original") or {}
        ap = entry.get("subset")
        scene = (row.get("times") or {}).get("one face")
        if ap is not None and scene:
            points.append((row, scene["median_ms"], 100 * ap))
    return points


def plain(name: str) -> str:
    """A name without Markdown."""
    return name.replace("*", "").replace("`", "")


def _within(tick: float, values: list[float]) -> bool:
    return min(values) / 2 <= tick <= max(values) * 2


def _number(axis, points, numbers) -> None:
    """Numbers above the points; points that lie on one another share one list of numbers."""
    if not points:
        return
    span = max(p[2] for p in points) - min(p[2] for p in points) or 1.0
    groups: list[list[tuple[dict, float, float]]] = []
    for point in sorted(points, key=lambda p: p[1]):
        for group in groups:
            if any(
                abs(math.log10(point[1] / other[1])) < 0.09
                and abs(point[2] - other[2]) / span < 0.05
                for other in group
            ):
                group.append(point)
                break
        else:
            groups.append([point])
    for group in groups:
        middle = math.exp(sum(math.log(p[1]) for p in group) / len(group))
        named = sorted(numbers[row["key"]][0] for row, _, _ in group)
        lines = [", ".join(map(str, named[i : i + 2])) for i in range(0, len(named), 2)]
        axis.annotate(
            "\n".join(lines),
            (middle, max(p[2] for p in group)),
            xytext=(0, 7),
            textcoords="offset points",
            ha="center",
            fontsize=9,
        )
    axis.margins(x=0.08, y=0.08)
