"""What each ingredient of the recipe for our own weights brings, at one small budget.

    python benchmarks/own_ablation.py --data ../shared/data --out runs/own-ablation --steps 400
        --set data.labels=LABELS.jsonl --set data.images=PHOTOS --set init.source=WIDE.weights.h5
        [--config own-slim] [--start FILE] [--rows NAME...] [--sets wider wider416 fddb] [--fddb-step 8] [--report docs]

A row is the recipe with one thing changed (`own/ingredients.py` lists them), trained for the same number of
steps with the same seed, without the moving average, which so few steps cannot fill. "Without pseudo-labels"
learns from the 12 WIDER train photos alone, the only ones that people labelled and no figure looks at. The
activation is compared from `--start`, weights of the recipe's own network with ReLU, and from random ones.
Printed: AP at IoU 0.5, longer side at 640, on `--sets`, and what the row lacks to the recipe. A row is a run
folder below `--out`; it goes on from its last checkpoint, and one that ended is not trained again. `--report`
writes the table between the marks of that folder's own-weights.md.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import re
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rich.console import Console

from benchmarks.own.ingredients import (
    ROWS,
    Budget,
    budget_of,
    labelled_lines,
    read_recipe,
    row_config,
    thinned,
)
from benchmarks.own.table import DETECTION
from benchmarks.peers.table import put_between_marks, table
from retinaface_tf.errors import ConfigError, RetinaFaceError
from retinaface_tf.evaluation.detections import write_whole

STDERR = Console(stderr=True)
BEGIN, END = "<!-- ablation: written by benchmarks/own_ablation.py -->", "<!-- end of ablation -->"
COMMAND = (
    "python benchmarks/own_ablation.py --data DATA --out OUT --steps {steps} --config {config} ..."
)


def main() -> None:
    options = read_options()
    recipe = read_recipe(options.config, options.overrides)
    data = recipe.get("data", {})
    if data.get("kind") != "json" or not data.get("labels"):
        sys.exit("The recipe's labels are a file of JSON lines: --set data.labels=LABELS.jsonl.")
    lines = [line for line in Path(data["labels"]).read_text().splitlines() if line.strip()]
    budget = budget_of(options.steps, data.get("batch", 32), len(lines))
    files = {
        "labels": written(options.out, "labels", thinned(lines, budget.photos)),
        "labelled": written(
            options.out, "labelled", thinned(labelled_lines(options.data), budget.photos)
        ),
    }
    if options.start:
        files["start"] = options.start.resolve()
    results = {}
    for name in options.rows:
        try:
            config = row_config(recipe, ROWS[name], budget, files)
            if ROWS[name] and config == row_config(recipe, {}, budget, files):
                raise ConfigError("The recipe is so.")
            results[name] = finished_row(name, config, options)
        except RetinaFaceError as error:
            # Another network's weights, an option of a later version: the other rows go on.
            say(f"{name}: left out. {error}")
    text = report(results, budget, options.config)
    print(text)
    if options.report:
        page = options.report / "own-weights.md"
        write_whole(page, put_between_marks(page.read_text(encoding="utf-8"), text, BEGIN, END))


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--config", default="own-slim", help="a file, or a name in training/configs"
    )
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--start", type=Path, help="weights of the recipe's own network")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="NAME")
    parser.add_argument("--sets", nargs="+", choices=DETECTION, default=list(DETECTION))
    parser.add_argument("--fddb-step", type=int, default=8, help="take every n-th FDDB picture")
    parser.add_argument("--limit", type=int, help="pictures of each set, for a quick look")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--report", type=Path, help="folder of own-weights.md")
    return parser.parse_args()


def written(folder: Path, name: str, lines: list[str]) -> Path:
    """A list as a file whose name tells its content, so that rows of other labels are known."""
    content = "\n".join(lines) + "\n"
    mark = hashlib.sha256(content.encode()).hexdigest()[:8]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder.resolve() / f"{name}-{mark}.jsonl"
    write_whole(path, content)
    return path


def finished_row(name: str, config, options: argparse.Namespace) -> dict:
    """A row trained and judged, or what was kept of it: {"steps", "seconds", "ap": {title: AP}}."""
    folder = options.out / re.sub(r"[^a-z0-9.]+", "-", name.lower())
    file = folder / "result.json"
    kept = json.loads(file.read_text()) if file.is_file() else {}
    if kept and kept["config"] != config.to_dict():
        sys.exit(f"{folder} holds the row at other settings; choose another --out.")
    if not kept:
        kept = {**trained(folder, config), "config": config.to_dict(), "ap": {}}
        write_whole(file, json.dumps(kept) + "\n")
    sets = chosen_sets(options)
    if set(sets) - set(kept["ap"]):
        kept["ap"] |= judged(folder, sets)
        write_whole(file, json.dumps(kept) + "\n")
    return {**kept, "ap": {title: kept["ap"][title] for title in sets}}


def trained(folder: Path, config) -> dict:
    """Trains a row, or goes on."""
    import keras

    from retinaface_tf.training.progress import rich_progress
    from retinaface_tf.training.trainer import train

    begin = time.monotonic()
    result = train(
        config, folder, track=rich_progress, notify=lambda line: say(f"{folder.name}: {line}")
    )
    keras.backend.clear_session()
    return {"steps": result.steps, "seconds": round(time.monotonic() - begin)}


def chosen_sets(options: argparse.Namespace) -> dict:
    """The sets that rows are judged on, by their title in the table."""
    from benchmarks.own.found import sets_of

    sets = sets_of(options.data, options.fddb_step, options.limit)
    return {f"{sets[key].title} ({len(sets[key].photos)})": sets[key] for key in options.sets}


def judged(folder: Path, sets: dict) -> dict[str, float]:
    """AP of a row's weights, by the sets' titles."""
    from rich.progress import track

    from benchmarks.own.detectors import package_detector
    from benchmarks.own.found import find_all
    from benchmarks.peers.scores import precision

    detector = package_detector("row", folder.name, str(folder / "last.weights.h5"), "keras")
    ap = {}
    for title, pictures in sets.items():
        answers = find_all(
            detector,
            pictures,
            "640",
            folder / "found",
            lambda photos, title=title: track(photos, f"{folder.name}: {title}", console=STDERR),
        )
        ap[title] = precision(answers, pictures, range(len(pictures.photos)))
    return ap


def report(results: dict[str, dict], budget: Budget, config: str) -> str:
    """The table: AP of every row, and the difference to the recipe's where that was trained."""
    if not results:
        return "No row was trained."
    recipe = results.get("the recipe")
    head = [f"AP at IoU 0.5, 640, after {budget.steps} steps", *next(iter(results.values()))["ap"]]
    rows = []
    for name, result in results.items():
        cells = [name]
        for title, value in result["ap"].items():
            other = recipe is not None and result is not recipe
            change = f" ({value - recipe['ap'][title]:+.3f})" if other else ""
            cells.append(f"{value:.3f}{change}")
        rows.append(cells)
    command = COMMAND.format(steps=budget.steps, config=config)
    made = f"Run of {datetime.date.today().isoformat()}, each row one seed: `{command}`"
    return f"{made}\n\n{table(head, rows)}"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
