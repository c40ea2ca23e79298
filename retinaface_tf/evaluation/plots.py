"""The report's images, drawn by matplotlib into PNG bytes. Several runs share each image."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from retinaface_tf.evaluation.widerface import SUBSETS

if TYPE_CHECKING:
    from retinaface_tf.evaluation.speed import Measurement

# Distinct in print and for colour-blind readers (Okabe and Ito).
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", ":")


def precision_recall_plot(runs: Sequence[dict[str, Any]]) -> bytes:
    """WIDER FACE's three curves side by side, one line a run."""
    figure, axes = new_figure(12, 4.2, columns=3)
    for axis, subset in zip(axes, SUBSETS):
        for number, run in enumerate(runs):
            curve, ap = run["curves"][subset], run["ap"][subset]
            label = f"{_percent(ap)}  {run['name']}"
            axis.plot(curve["recall"], curve["precision"], label=label, **_style(number))
        axis.set(title=subset, xlabel="recall", xlim=(0, 1), ylim=(0, 1.01))
        axis.legend(loc="lower left", fontsize=8, title="AP", title_fontsize=8)
    axes[0].set_ylabel("precision")
    return _png(figure)


def height_plot(runs: Sequence[dict[str, Any]]) -> bytes:
    """AP by face height, bars of the runs side by side, the number of faces beneath."""
    figure, (axis,) = new_figure(9, 3.8)
    names = list(runs[0]["by_height"])
    width = 0.8 / len(runs)
    for number, run in enumerate(runs):
        values = [run["by_height"][name]["ap"] for name in names]
        x = np.arange(len(names)) + (number - (len(runs) - 1) / 2) * width
        heights = [0 if v is None else v for v in values]
        bars = axis.bar(x, heights, width * 0.92, label=run["name"], color=_color(number))
        labels = ["–" if v is None else f"{100 * v:.1f}" for v in values]
        axis.bar_label(bars, labels, fontsize=7, padding=1)
    counts = [runs[0]["by_height"][name]["faces"] for name in names]
    labels = [f"{n} px\n{c} faces" for n, c in zip(names, counts)]
    axis.set_xticks(range(len(names)), labels, fontsize=8)
    axis.set(ylabel="AP, hard", ylim=(0, 1.08))
    axis.grid(False, axis="x")
    if len(runs) > 1:
        axis.legend(fontsize=8)
    return _png(figure)


def fddb_plot(runs: Sequence[dict[str, Any]]) -> bytes:
    """FDDB's discrete and continuous ROC."""
    figure, axes = new_figure(11, 4.2, columns=2)
    for axis, score in zip(axes, ("discrete", "continuous")):
        for number, run in enumerate(runs):
            curve = run["curves"]
            label = f"{_percent(run['end'][score])}  {run['name']}"
            axis.plot(curve["false_positives"], curve[score], label=label, **_style(number))
        # The first hundred false positives are where detectors differ.
        axis.set_xscale("symlog", linthresh=1)
        axis.set(title=score, xlabel="false positives", ylim=(0, 1.01))
        axis.set_xlim(left=0)
        axis.legend(loc="lower right", fontsize=8, title="at the end", title_fontsize=8)
    axes[0].set_ylabel("true positive rate")
    return _png(figure)


def error_plot(runs: Sequence[dict[str, Any]]) -> bytes:
    """Cumulative error distribution of landmarks."""
    figure, (axis,) = new_figure(7, 4.4)
    for number, run in enumerate(runs):
        error = 100 * np.array(run["curves"]["error"])
        label = f"{_percent(run['nme'])} NME  {run['name']}"
        axis.plot(error, run["curves"]["share"], label=label, **_style(number))
    axis.axvline(10, color="#888888", linewidth=0.8)
    axis.annotate("failure", (10.2, 0.03), fontsize=8, color="#666666")
    axis.set(xlabel="error, % of sqrt(W·H)", ylabel="share of faces", xlim=(0, 20), ylim=(0, 1.01))
    axis.legend(loc="center right", fontsize=8)
    return _png(figure)


def verification_plot(runs: Sequence[dict[str, Any]]) -> bytes:
    """ROC of verification, false accept rate on a logarithmic axis."""
    figure, (axis,) = new_figure(7, 4.4)
    least = 1.0
    for number, run in enumerate(runs):
        far = np.array(run["curves"]["false_accept_rate"])
        floor = 1 / max(run["pairs"] - run["pairs_same"], 1)
        least = min(least, floor)
        label = f"{_percent(run['accuracy'])} accuracy  {run['name']}"
        tar = run["curves"]["true_accept_rate"]
        axis.plot(np.maximum(far, floor / 2), tar, label=label, **_style(number))
    axis.set(
        xscale="log",
        xlim=(least / 2, 1),
        ylim=(0, 1.01),
        xlabel="false accept rate",
        ylabel="true accept rate",
    )
    axis.legend(loc="lower right", fontsize=8)
    return _png(figure)


def speed_plot(results: Sequence[Measurement], size: str) -> bytes:
    """Accuracy against latency at one size of image, "WIDTHxHEIGHT"."""
    figure, (axis,) = new_figure(8, 5)
    for number, result in enumerate(results):
        middle, slow, _ = result.percentiles(size)
        precision, color = 100 * result.average_precision, _color(number)
        axis.plot(middle, precision, "o", color=color)
        axis.hlines(precision, middle, slow, color=color)
        offset = (5, 6 + 11 * (number % 4))
        axis.annotate(
            result.name, (middle, precision), offset, textcoords="offset points", fontsize=8
        )
    axis.set(
        xlabel=f"milliseconds an image at {size}, end to end (dot: median, line: to p90)",
        ylabel="average precision at IoU 0.5, %",
    )
    axis.set_xlim(left=0)
    axis.margins(0.15)
    low, high = axis.get_ylim()
    if high - low < 2:
        # Differences of a few hundredths of a point are not to look like cliffs.
        axis.set_ylim((low + high) / 2 - 1, (low + high) / 2 + 1)
    return _png(figure)


def new_figure(width: float, height: float, columns: int = 1):
    """A matplotlib figure in inches with its axes in a row, drawn as all of the package's plots."""
    # Without pyplot: no window system, no state between images.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for axis in axes:
        axis.grid(True, color="#dddddd", linewidth=0.6)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _color(number: int) -> str:
    return COLORS[number % len(COLORS)]


def _style(number: int) -> dict[str, Any]:
    style = STYLES[number // len(COLORS) % len(STYLES)]
    return {"color": _color(number), "linestyle": style, "linewidth": 1.6}


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _png(figure) -> bytes:
    stream = BytesIO()
    # No date, so the same figures give the same bytes.
    figure.savefig(stream, format="png", dpi=130, metadata={"Software": None})
    return stream.getvalue()
