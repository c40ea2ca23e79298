"""Reports: one HTML page that needs nothing else, the same images as PNG files, the JSON."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
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

GALLERIES = ("misses", "false_positives")
FILES = (
    *("report.html", "results.json", "precision_recall.png", "by_height.png", "roc.png"),
    "cumulative_error.png",
)


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


@dataclass(frozen=True)
class Gallery:
    """Crops with captions."""

    title: str
    name: str
    crops: Sequence[Crop]
    note: str = ""


def report_files(folder: Path) -> list[Path]:
    """The files that `write_report` may write into a folder, whatever kind of results it shows."""
    galleries = [path for name in GALLERIES for path in sorted(folder.glob(f"{name}/[0-9]*.png"))]
    return [*(folder / name for name in FILES), *galleries]


def write_report(
    folder: Path | str, runs: Sequence[dict[str, Any]], galleries: Sequence[Gallery] = ()
) -> Path:
    """Write `report.html`, `results.json` (of the first run), and a PNG of every image.

    Args:
        folder: made if need be.
        runs: results of one kind; the first is the report's own, the others are drawn beside it.
        galleries: crops of the first run.

    Raises:
        ConfigError: the runs are of several kinds.
    """
    kinds = {run["kind"] for run in runs}
    if len(kinds) != 1:
        raise ConfigError(f"A report shows runs of one kind, not of {', '.join(sorted(kinds))}.")
    first = runs[0]
    title, build = _KINDS[first["kind"]]
    more = f" and {len(runs) - 1} more" if len(runs) > 1 else ""
    summary, tables, images = build(first, runs)
    galleries = [gallery for gallery in galleries if gallery.crops]
    folder = Path(folder)
    for image in images:
        write_whole(folder / f"{image.name}.png", image.png, error=DataError)
    for gallery in galleries:
        for number, crop in enumerate(gallery.crops):
            png = encode_png(crop.pixels)
            write_whole(folder / gallery.name / f"{number:02d}.png", png, error=DataError)
    write_json(folder / "results.json", first)
    html = _render(
        title=f"{title}: {first['name']}{more}",
        summary=summary,
        tables=tables,
        images=images,
        galleries=galleries,
        runs=runs,
    )
    return write_whole(folder / "report.html", html, error=DataError)


def _render(**page) -> str:
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


Parts = tuple[str, list[Table], list[ReportImage]]  # summary, tables, images


def _widerface(first: dict[str, Any], runs: Sequence[dict[str, Any]]) -> Parts:
    summary = f"{first['images']} images"
    if first["images_missing"]:
        summary += (
            f", {first['images_missing']} of them missing from the results: their faces count as "
            "missed"
        )
    faces = ", ".join(f"{first['faces'][s]} {s}" for s in SUBSETS)
    names = [run["name"] for run in runs]
    attributes = [
        [f"{attribute}: {row[0]}", *row[1:]]
        for attribute in first["by_attribute"]
        for row in _rows([run["by_attribute"][attribute] for run in runs])
    ]
    tables = [
        _by_run(
            "Average precision, %",
            [*SUBSETS, *(f"mAP {s}" for s in SUBSETS)],
            lambda r: [_percent(r[figure][s]) for figure in ("ap", "map") for s in SUBSETS],
            runs,
            f"At IoU 0.5 by the official protocol; mAP is the mean over IoU 0.5:0.05:0.95. Faces: "
            f"{faces}.",
        ),
        Table(
            "By face height",
            ["pixels", "faces", *names],
            _rows([run["by_height"] for run in runs]),
            "Hard subset. A false positive counts in the range of its own height.",
        ),
        Table(
            "By attribute",
            ["attribute", "faces", *names],
            attributes,
            "Hard subset. False positives count in every row.",
        ),
        Table(
            "By event",
            ["event", "faces", *names],
            _rows([run["by_event"] for run in runs]),
            "Hard subset.",
            folded=True,
        ),
    ]
    images = [
        ReportImage("Precision and recall", "precision_recall", plots.precision_recall_plot(runs)),
        ReportImage("Face height", "by_height", plots.height_plot(runs)),
    ]
    return summary, tables, images


def _fddb(first: dict[str, Any], runs: Sequence[dict[str, Any]]) -> Parts:
    limits = [n for n in FALSE_POSITIVES if n <= max(r["end"]["false_positives"] for r in runs)]
    tables = [
        _by_run(
            f"{score.capitalize()} score, %",
            [*(f"{n} FP" for n in limits), "all", "FP in all"],
            lambda r, score=score: [
                *(_percent(r[score][str(n)]) for n in limits),
                _percent(r["end"][score]),
                str(r["end"]["false_positives"]),
            ],
            runs,
            "True positive rate at this many false positives of all images together.",
        )
        for score in ("discrete", "continuous")
    ]
    images = [ReportImage("ROC", "roc", plots.fddb_plot(runs))]
    return f"{first['images']} images, {first['faces']} faces", tables, images


def _landmarks(first: dict[str, Any], runs: Sequence[dict[str, Any]]) -> Parts:
    points = list(first["nme_by_point"])
    figures = ("nme", "failure_rate", "auc_10")
    tables = [
        _by_run(
            "Errors",
            ["faces", "found", "NME %", "failures %", "AUC at 10 %"],
            lambda r: [str(r["faces"]), str(r["found"]), *(_percent(r[f]) for f in figures)],
            runs,
            "NME: mean distance over sqrt(W·H) of the annotated box, of the faces found. Failures: "
            "error above 10 %, or not found.",
        ),
        _by_run(
            "By point, NME %",
            [point.replace("_", " ") for point in points],
            lambda r: [_percent(r["nme_by_point"][point]) for point in points],
            runs,
        ),
    ]
    images = [ReportImage("Cumulative error", "cumulative_error", plots.error_plot(runs))]
    return f"{first['faces']} faces, {first['found']} found", tables, images


def _verification(first: dict[str, Any], runs: Sequence[dict[str, Any]]) -> Parts:
    levels = [f"{level:g}" for level in FAR_LEVELS]
    tables = [
        _by_run(
            "Verification, %",
            ["pairs", "accuracy", "±", *(f"TAR at {level}" for level in levels)],
            lambda r: [
                str(r["pairs"]),
                *(_percent(r[figure]) for figure in ("accuracy", "accuracy_deviation")),
                *(_percent(r["tar"][level]) for level in levels),
            ],
            runs,
            "Accuracy over folds, the threshold chosen on the others. A rate that the pairs are too "
            "few to show is left out.",
        )
    ]
    images = [ReportImage("ROC", "roc", plots.verification_plot(runs))]
    summary = f"{first['pairs']} pairs, {first['pairs_same']} of them of one person"
    return summary, tables, images


_KINDS = {
    "widerface": ("WIDER FACE", _widerface),
    "fddb": ("FDDB", _fddb),
    "landmarks": ("Landmarks", _landmarks),
    "verification": ("Verification", _verification),
}


def _by_run(title: str, header: list[str], cells, runs, note: str = "") -> Table:
    """A row for each run: its name and `cells(run)`."""
    return Table(title, ["run", *header], [[run["name"], *cells(run)] for run in runs], note)


def _rows(tables: list[dict]) -> list[list[str]]:
    """Rows of name, faces, and the AP of each run's table."""
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
