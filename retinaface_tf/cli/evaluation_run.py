"""What the `evaluate` commands share: opening the detector, running it, leaving results behind."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retinaface_tf.cli.augmentation import read_augmentation
from retinaface_tf.config import DetectionSettings
from retinaface_tf.errors import ConfigError
from retinaface_tf.util.progress import progress_bar


@dataclass(frozen=True, kw_only=True)
class DetectorOptions:
    """The options that say which detector searches, and how."""

    preset: str
    model: Path | None
    runtime: str | None
    threshold: float
    iou: float
    precision: str = "float32"
    size: str | None = None
    scales: str | None = None
    flip: bool = False
    vote: bool = False
    rotations: bool = False
    tiles: int | None = None
    batch_size: int = 8

    @classmethod
    def of(cls, values: dict[str, Any]) -> DetectorOptions:
        """Those of a command's arguments that are ours."""
        names = cls.__dataclass_fields__
        return cls(**{name: value for name, value in values.items() if name in names})

    def open(self) -> tuple[Any, dict[str, Any]]:
        """The detector, and what its answers depend on (for the results' provenance)."""
        from retinaface_tf.cli.open_detector import open_detector
        from retinaface_tf.inference.preprocess import parse_size
        from retinaface_tf.util.files import sha256_of
        from retinaface_tf.weights.files import preset_file

        size = parse_size(self.size)
        augmentation = read_augmentation(
            self.scales, self.flip, self.vote, self.rotations, self.tiles, size
        )
        detector = open_detector(
            self.preset,
            self.model,
            self.runtime,
            precision=self.precision,
            settings=DetectionSettings(threshold=self.threshold, iou=self.iou, size=size),
            augmentation=augmentation,
        )
        path = self.model or preset_file(self.preset, self.runtime, precision=self.precision)
        named = self.preset if self.precision == "float32" else f"{self.preset} {self.precision}"
        settings = {
            "weights": str(self.model) if self.model is not None else named,
            "weights_sha256": sha256_of(path) if path.is_file() else None,
            "weights_source_sha256": self._source_sha256(),
            "runtime": detector.backend.name,
            "scales": [size] if augmentation is None else list(augmentation.scales),
            "flip": self.flip,
            "vote": self.vote,
            "rotations": self.rotations,
            "tiles": self.tiles,
            "threshold": self.threshold,
            "iou": self.iou,
        }
        settings["scales"] = ["default" if s is None else s for s in settings["scales"]]
        return detector, settings

    def _source_sha256(self) -> str | None:
        """Of the bytes a preset's weights were converted from: the same on every machine."""
        from retinaface_tf.presets import get_preset

        source = None if self.model is not None else get_preset(self.preset).source
        return source.digest if source is not None else None


def search(
    options: DetectorOptions, pictures: dict[str, Path], save: Path | None
) -> tuple[dict, dict[str, Any]]:
    """Detections of every image, and the detector's settings; a progress bar on stderr."""
    from retinaface_tf.evaluation.runner import run_detector

    detector, settings = options.open()
    with progress("images", len(pictures)) as (advance, report):
        found = run_detector(
            detector,
            pictures,
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


def leave(
    results: dict[str, Any],
    json: Path | None,
    report: Path | None,
    others: list[Path] | None,
    galleries=(),
) -> None:
    """Write the JSON and the report; the other results are drawn beside these."""
    from retinaface_tf.evaluation.results import read_json, write_json

    if others and report is None:
        raise ConfigError("--with draws other results into a report: give --report too.")
    if json is not None:
        write_json(json, results)
    if report is not None:
        from retinaface_tf.evaluation.report import write_report

        runs = [results, *(read_json(path) for path in others or ())]
        print(f"wrote {write_report(report, runs, galleries)}", file=sys.stderr)


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


def need_one(pred: Path | None, images: Path | None) -> None:
    """Refuse a call that names neither detections nor images."""
    if pred is None and images is None:
        raise ConfigError("Give detections with --pred, or images to search with --images.")


def need_all(there: int, whole: int, folder: Path, partial: bool) -> None:
    """Refuse to judge part of a set unless that is asked for."""
    if there < whole and not partial:
        raise ConfigError(
            f"{folder} holds {there} of {whole} images; add --partial to judge those alone."
        )


def run_name(name: str | None, pred: Path | None, settings: dict) -> str:
    """What tables call a run when the user does not say."""
    if name is not None:
        return name
    if pred is not None:
        return pred.stem
    parts = [Path(settings["weights"]).name, ",".join(map(str, settings["scales"]))]
    parts += [option for option in ("flip", "vote", "rotations") if settings[option]]
    return " ".join(parts)
