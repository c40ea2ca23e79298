"""Reports: one HTML page that needs nothing else, the same images as PNG files, the JSON."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from retinaface_tf.errors import ConfigError, DataError
from retinaface_tf.evaluation import plots
from retinaface_tf.evaluation.crops import Crop
from retinaface_tf.evaluation.results import FALSE_POSITIVES, write_json
from retinaface_tf.evaluation.verification import FAR_LEVELS
from retinaface_tf.evaluation.widerface import SUBSETS
from retinaface_tf.util.files import write_whole

TITLES = {
    "widerface": "WIDER FACE",
    "fddb": "FDDB",
    "landmarks": "Landmarks",
    "verification": "Verification",
}


@dataclass(frozen=True)
class Table:
    """Rows of text under a header; the first column names the row."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    folded: bool = False


@dataclass(frozen=True)
class ReportImage:
    """A PNG with the file name it gets, without extension."""

    title: str
    name: str
    png: bytes
    note: str = ""


@dataclass(frozen=True)
class Gallery:
    """Crops with captions."""

    title: str
    name: str
    crops: Sequence[Crop]
    note: str = ""


@dataclass(frozen=True)
class Page:
    """What a report shows, in this order: tables, images, folded tables, galleries, provenance."""

    title: str
    summary: str
    tables: list[Table] = field(default_factory=list)
    images: list[ReportImage] = field(default_factory=list)
    galleries: list[Gallery] = field(default_factory=list)
    runs: Sequence[dict[str, Any]] = ()


def write_report(
    folder: Path | str, runs: Sequence[dict[str, Any]], galleries: Sequence[Gallery] = ()
) -> Path:
    """Write `report.html`, `results.json` (of the first run), and a PNG of every image.

    Args:
        folder: made if need be.
        runs: results of one kind; the first is the report's own, the others are drawn beside it.
        galleries: crops of the first run.

    Returns:
        the page's path.

    Raises:
        ConfigError: the runs are of several kinds.
    """
    kinds = {run["kind"] for run in runs}
    if len(kinds) != 1:
        raise ConfigError(f"A report shows runs of one kind, not of {', '.join(sorted(kinds))}.")
    builders = {
        "widerface": _widerface,
        "fddb": _fddb,
        "landmarks": _landmarks,
        "verification": _verification,
    }
    page = builders[runs[0]["kind"]](runs)
    page.galleries.extend(gallery for gallery in galleries if gallery.crops)
    folder = Path(folder)
    for image in page.images:
        write_whole(folder / f"{image.name}.png", image.png, error=DataError)
    for gallery in page.galleries:
        for number, crop in enumerate(gallery.crops):
            png = encode_png(crop.pixels)
            write_whole(folder / gallery.name / f"{number:02d}.png", png, error=DataError)
    write_json(folder / "results.json", runs[0])
    return write_whole(folder / "report.html", render(page), error=DataError)


def render(page: Page) -> str:
    """The page as HTML with every image inside it."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["png_uri"] = _png_uri
    environment.filters["crop_uri"] = lambda pixels: _png_uri(encode_png(pixels))
    return environment.get_template("report.html.j2").render(page=page, provenance=_provenance)


def encode_png(pixels: np.ndarray) -> bytes:
    """uint8 RGB [H, W, 3] -> PNG."""
    from PIL import Image

    stream = BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _widerface(runs: Sequence[dict[str, Any]]) -> Page:
    first = runs[0]
    missing = first["images_missing"]
    summary = f"{first['images']} images"
    if missing:
        summary += f", {missing} of them missing from the results: their faces count as missed"
    header = ["run", *SUBSETS, *(f"mAP {s}" for s in SUBSETS)]
    rows = [
        [
            r["name"],
            *(_percent(r["ap"][s]) for s in SUBSETS),
            *(_percent(r["map"][s]) for s in SUBSETS),
        ]
        for r in runs
    ]
    faces = ", ".join(f"{first['faces'][s]} {s}" for s in SUBSETS)
    names = [run["name"] for run in runs]
    tables = [
        Table(
            "Average precision, %",
            header,
            rows,
            f"At IoU 0.5 by the official protocol; mAP is the mean over IoU 0.5:0.05:0.95. Faces: {faces}.",
        ),
        Table(
            "By face height",
            ["pixels", "faces", *names],
            _rows(runs, "by_height"),
            "Hard subset. A false alarm counts in the range of its own height.",
        ),
        Table(
            "By attribute",
            ["attribute", "faces", *names],
            [
                [f"{attribute}: {row[0]}", *row[1:]]
                for attribute in first["by_attribute"]
                for row in _rows(runs, "by_attribute", attribute)
            ],
            "Hard subset. False alarms count in every row.",
        ),
        Table(
            "By event", ["event", "faces", *names], _rows(runs, "by_event"), "Hard subset.", True
        ),
    ]
    images = [
        ReportImage("Precision and recall", "precision_recall", plots.precision_recall_plot(runs)),
        ReportImage("Face height", "by_height", plots.height_plot(runs)),
    ]
    return Page(_title(runs), summary, tables, images, [], runs)


def _fddb(runs: Sequence[dict[str, Any]]) -> Page:
    first = runs[0]
    limits = [n for n in FALSE_POSITIVES if n <= max(r["end"]["false_positives"] for r in runs)]
    tables = [
        Table(
            f"{score.capitalize()} score, %",
            ["run", *(f"{n} FP" for n in limits), "all", "FP in all"],
            [
                [
                    r["name"],
                    *(_percent(r[score][str(n)]) for n in limits),
                    _percent(r["end"][score]),
                    str(r["end"]["false_positives"]),
                ]
                for r in runs
            ],
            "True positive rate at so many false positives of all images together.",
        )
        for score in ("discrete", "continuous")
    ]
    images = [ReportImage("ROC", "roc", plots.fddb_plot(runs))]
    summary = f"{first['images']} images, {first['faces']} faces"
    return Page(_title(runs), summary, tables, images, [], runs)


def _landmarks(runs: Sequence[dict[str, Any]]) -> Page:
    first = runs[0]
    header = ["run", "faces", "found", "NME %", "failures %", "AUC at 10 %"]
    rows = [
        [
            r["name"],
            str(r["faces"]),
            str(r["found"]),
            _percent(r["nme"]),
            _percent(r["failure_rate"]),
            _percent(r["auc_10"]),
        ]
        for r in runs
    ]
    points = list(first["nme_by_point"])
    tables = [
        Table(
            "Errors",
            header,
            rows,
            "NME: mean distance over sqrt(W·H) of the annotated box, of the faces found. Failures: "
            "error above 10 %, or not found.",
        ),
        Table(
            "By point, NME %",
            ["run", *(p.replace("_", " ") for p in points)],
            [[r["name"], *(_percent(r["nme_by_point"][p]) for p in points)] for r in runs],
        ),
    ]
    images = [ReportImage("Cumulative error", "cumulative_error", plots.error_plot(runs))]
    summary = f"{first['faces']} faces, {first['found']} found"
    return Page(_title(runs), summary, tables, images, [], runs)


def _verification(runs: Sequence[dict[str, Any]]) -> Page:
    first = runs[0]
    levels = [f"{level:g}" for level in FAR_LEVELS]
    tables = [
        Table(
            "Verification, %",
            ["run", "pairs", "accuracy", "±", *(f"TAR at {level}" for level in levels)],
            [
                [
                    r["name"],
                    str(r["pairs"]),
                    _percent(r["accuracy"]),
                    _percent(r["accuracy_deviation"]),
                    *(_percent(r["tar"][level]) for level in levels),
                ]
                for r in runs
            ],
            "Accuracy over folds, the threshold chosen on the others. A rate that so few pairs "
            "cannot show is left out.",
        )
    ]
    images = [ReportImage("ROC", "roc", plots.verification_plot(runs))]
    summary = f"{first['pairs']} pairs, {first['pairs_same']} of them of one person"
    return Page(_title(runs), summary, tables, images, [], runs)


def _title(runs: Sequence[dict[str, Any]]) -> str:
    more = f" and {len(runs) - 1} more" if len(runs) > 1 else ""
    return f"{TITLES[runs[0]['kind']]}: {runs[0]['name']}{more}"


def _rows(runs, table: str, part: str | None = None) -> list[list[str]]:
    tables = [run[table] if part is None else run[table][part] for run in runs]
    return [
        [name, str(cell["faces"]), *(_percent(t.get(name, {}).get("ap")) for t in tables)]
        for name, cell in tables[0].items()
    ]


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f}"


def _provenance(run: dict[str, Any]) -> list[tuple[str, str]]:
    """What a run's `made` says, flat."""
    rows = []
    for key, value in run["made"].items():
        if isinstance(value, dict):
            value = ", ".join(f"{k} {v}" for k, v in value.items())
        elif isinstance(value, list):
            value = ", ".join(map(str, value))
        rows.append((key.replace("_", " "), "–" if value is None else str(value)))
    return rows


def _png_uri(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()
