"""What the `evaluate` commands share: their options, the detector, tables, results left behind."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from retinaface_tf.cli.open_detector import DetectionOptions
from retinaface_tf.cli.options import Overwrite, Threshold
from retinaface_tf.errors import ConfigError
from retinaface_tf.util.extras import require
from retinaface_tf.util.files import is_file, is_folder, require_folder, require_free
from retinaface_tf.util.progress import progress_bar

if TYPE_CHECKING:
    from retinaface_tf.inference.detector import Detector

Pred = Annotated[
    Path | None,
    typer.Option(help="Detections: a folder of EVENT/IMAGE.txt, or JSON lines of `detect --json`."),
]
Images = Annotated[Path | None, typer.Option(help="Folder of the images.")]
Save = Annotated[
    Path | None,
    typer.Option(
        metavar="JSONL",
        help="Keep detections here as they come; a run that was stopped is resumed.",
    ),
]
Partial = Annotated[
    bool,
    typer.Option("--partial", help="Evaluate only the images that are there, not the whole set."),
]
_LABEL_SUFFIXES = frozenset((".jsonl", ".mat", ".npz", ".pts", ".txt", ".xml"))
Json = Annotated[Path | None, typer.Option(help="Write figures, curves and samples as JSON.")]


@dataclass(frozen=True, kw_only=True)
class DetectorOptions(DetectionOptions):
    """Which detector searches, and how."""

    def open(self) -> tuple[Detector, dict[str, Any]]:
        """The detector, and what its answers depend on (for the results' provenance)."""
        from retinaface_tf.presets import get_preset
        from retinaface_tf.util.files import sha256_of
        from retinaface_tf.weights.choose_file import preset_file

        detector, augmentation = self.open_detector(), self.augmentation
        if self.model is not None:
            path, named, source = self.model, str(self.model), None
        else:
            path = preset_file(self.preset, self.runtime, precision=self.precision)
            named, source = self.preset, get_preset(self.preset).source
            if self.precision != "float32":
                named += f" {self.precision}"
        scales = [self.settings.size] if augmentation is None else augmentation.scales
        return detector, {
            "weights": named,
            "weights_sha256": sha256_of(path) if is_file(path) else None,
            # Of the bytes a preset's weights were converted from: the same on every machine.
            "weights_source_sha256": source.digest if source is not None else None,
            "runtime": detector.backend.name,
            "scales": ["default" if scale is None else scale for scale in scales],
            "flip": self.flip,
            "vote": self.vote,
            "rotations": self.rotations,
            "tiles": self.tiles,
            "threshold": self.threshold,
            "iou": self.iou,
        } | ({} if self.zoom == "off" else {"zoom": self.zoom, "budget": self.budget})


@dataclass(frozen=True, kw_only=True)
class BenchmarkOptions(DetectorOptions):
    """The same for precision-recall curves, which want detections of low scores too."""

    threshold: Threshold = 0.02


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """What a command leaves behind."""

    name: Annotated[str | None, typer.Option(help="Name of this run in tables.")] = None
    json: Json = None
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write an HTML report and PNGs.")
    ] = None
    others: Annotated[
        list[Path] | None,
        typer.Option("--with", metavar="JSON", help="Other results to draw into the report."),
    ] = None
    overwrite: Overwrite = False

    def require(self, kind: str, inputs: Iterable[Path | None]) -> None:
        """Refuses, before the work begins, outputs that cannot be or that would replace something.

        Args:
            kind: of the results.
            inputs: files and folders that are read; None for one that is not given.
        """
        from retinaface_tf.evaluation.results import read_json

        if self.others and self.report is None:
            raise ConfigError("--with draws other results into a report: give --report too.")
        for path in self.others or ():
            if (other := read_json(path)["kind"]) != kind:
                raise ConfigError(f"{path} holds results of {other}, not of {kind}.")
        read = files_read([*inputs, *(self.others or ())])
        if self.report is not None:
            require_report(self.report, read, self.overwrite)
        if self.json is not None:
            require_free(self.json, read, overwrite=self.overwrite)

    def run_name(self, pred: Path | None, settings: dict) -> str:
        """What tables call a run: `--name`, or what was evaluated."""
        if self.name is not None:
            return self.name
        if pred is not None:
            return pred.stem
        parts = [Path(settings["weights"]).name, ",".join(map(str, settings["scales"]))]
        parts += [option for option in ("flip", "vote", "rotations") if settings[option]]
        return " ".join(parts)

    def write(self, results: dict[str, Any], galleries=()) -> None:
        """Write the JSON and the report; the other results are drawn beside these."""
        from retinaface_tf.evaluation.results import read_json, write_json

        if self.json is not None:
            write_json(self.json, results)
        if self.report is not None:
            from retinaface_tf.evaluation.report import write_report

            runs = [results, *(read_json(path) for path in self.others or ())]
            print(f"wrote {write_report(self.report, runs, galleries)}", file=sys.stderr)


def files_read(places: Iterable[Path | None]) -> list[Path]:
    """The files at these places; of a folder those below it that hold labels or detections."""
    files = []
    for place in places:
        if place is not None and is_folder(place):
            files += [path for path in place.rglob("*") if path.suffix in _LABEL_SUFFIXES]
        elif place is not None:
            files.append(place)
    return files


def require_report(folder: Path, inputs: Iterable[Path], overwrite: bool) -> None:
    """Makes the folder of a report, and refuses files in the way, see `require_free`."""
    from retinaface_tf.evaluation.report import report_files

    require("evaluate", "matplotlib", "jinja2", for_="A report")
    require_folder(folder)
    for path in report_files(folder):
        require_free(path, inputs, overwrite=overwrite)


def detections(
    options: DetectorOptions,
    pred: Path | None,
    known: Iterable[str],
    images: dict[str, Path],
    save: Path | None,
) -> tuple[dict, dict[str, Any]]:
    """Detections by image key, and the settings they depend on: a file's, or of the images now.

    Args:
        options: of the detector.
        pred: `--pred`; None searches the images, with a progress bar on stderr.
        known: keys of the data set's images.
        images: key -> file.
        save: `--save`.
    """
    from retinaface_tf.evaluation.detections import read_detections
    from retinaface_tf.evaluation.runner import run_detector

    if pred is not None:
        return read_detections(pred, known), {"detections": str(pred)}
    detector, settings = options.open()
    with progress("images", len(images)) as (advance, report):
        found = run_detector(
            detector,
            images,
            settings=settings,
            batch_size=options.batch_size,
            save=save,
            advance=advance,
            report=report,
        )
    return found, settings


@contextmanager
def progress(
    title: str, total: int
) -> Iterator[tuple[Callable[[int], None], Callable[[str], None]]]:
    """A bar on stderr: (advance, report a line above it)."""
    bar = progress_bar(disable=not sys.stderr.isatty())
    with bar:
        task = bar.add_task(title, total=total)
        yield (
            lambda done: bar.advance(task, done),
            lambda message: bar.console.print(f"error: {message}", markup=False, soft_wrap=True),
        )


def show(title: str, header: list[str], rows: list[list[str]]) -> None:
    """A table on standard output."""
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for number, name in enumerate(header):
        table.add_column(name, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*row)
    # A pipe has no width to fold columns into.
    console = Console() if sys.stdout.isatty() else Console(width=160)
    console.print(title, markup=False, soft_wrap=True)
    console.print(table)


def percent(value: float | None) -> str:
    """0.5 -> "50.00"; a dash for what could not be measured."""
    return "–" if value is None or value != value else f"{100 * value:.2f}"
