"""Options that the `evaluate` commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Threshold = Annotated[float, typer.Option(help="Least score of a detection.")]
BatchSize = Annotated[int, typer.Option(help="Images given to the network at once.")]
Pred = Annotated[
    Path | None,
    typer.Option(help="Detections: a folder of EVENT/IMAGE.txt, or JSON lines of `detect --json`."),
]
Images = Annotated[Path | None, typer.Option(help="Folder of the images.")]
Json = Annotated[Path | None, typer.Option(help="Write figures, curves and samples as JSON.")]
Report = Annotated[Path | None, typer.Option(metavar="DIR", help="Write an HTML report and PNGs.")]
With = Annotated[
    list[Path] | None,
    typer.Option("--with", metavar="JSON", help="Other results to draw into the report."),
]
Name = Annotated[str | None, typer.Option(help="What tables call this run.")]
Save = Annotated[
    Path | None,
    typer.Option(
        metavar="JSONL", help="Keep detections here as they come; a stopped run goes on from it."
    ),
]
Partial = Annotated[
    bool,
    typer.Option("--partial", help="Judge only the images that are there, not the whole set."),
]
