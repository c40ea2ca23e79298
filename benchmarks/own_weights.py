"""Weights of our own beside the public ones and small peers: accuracy, points, time, in one run.

    python benchmarks/own_weights.py --data ../shared/data [--float32 FILE] [--int8 FILE]
        [--work runs/own-weights] [--out docs] [--models FILE...] [--yunet FILE] [--ultra-light FILE]
        [--fddb-step N] [--limit N] [--minutes N] [--rounds N] [--fresh]

Ours are the files in the package, or `--float32`, a .weights.h5 or a .tflite, and `--int8`, a .tflite;
`--models` are more files that `retinaface-tf detect --model` takes, or presets. YuNet and Ultra-Light are
read from DATA/weights.

AP is plain, all valid faces, IoU 0.5, scores from 0.02, suppression 0.4, on WIDER FACE val (16 photos), the
same shrunk to 416x416 (100) and FDDB's verified photos (846). "640" scales the longer side to 640 pixels, up
or down, "own size" does not. Ultra-Light's input is always 640x480. Points: 500 crops of 80x80 drawn by a
fixed seed and dlib's example photos, faces from a score of 0.5, as in `benchmarks/peers.py`. Times are CPU
times of one thread, all detectors in turns: the network alone in LiteRT at 640x640, and letterboxed pixels in,
faces out.

Results are kept in WORK, by the weights' digest, and reused when the command is repeated (`--minutes` stops it
in between; times are measured again); `--fresh` deletes them, for instance after a change of code. Written:
WORK/own-weights.json, WORK/sheet.jpg (24 photos, public and ours side by side; do not publish it, the photos are
not ours), OUT/figures/own-weights.json and the tables between the marks of OUT/own-weights.md. A quick run (`--limit`,
`--fddb-step`) does not change OUT.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shutil
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rich.console import Console
from rich.progress import track

from benchmarks.own import detectors, table
from benchmarks.own.failures import worst_failures
from benchmarks.own.found import find_all, found_file, sets_of, sizes_of
from benchmarks.own.sheet import draw_sheet, sheet_words, write_sheet
from benchmarks.own.timing import end_to_end_times, network_times
from benchmarks.peers.environments import machine
from benchmarks.peers.scores import point_errors, precision
from benchmarks.peers.table import put_between_marks
from retinaface_tf.presets import DEFAULT_PRESET, get_preset
from retinaface_tf.util.files import write_whole

STDERR = Console(stderr=True)
COMMAND = "python benchmarks/own_weights.py --data DATA"
YUNET = "weights/ShiqiYu_libfacedetection.train/yunet_n_dynamic.onnx"
ULTRA_LIGHT = "weights/Linzaer_Ultra-Light/version-RFB-640.onnx"
PAGE = "own-weights"
PHOTOS = 24


def main() -> None:
    options = read_options()
    if options.fresh:
        shutil.rmtree(options.work / "found", ignore_errors=True)
    sets = sets_of(options.data, options.fddb_step, options.limit)
    rows = open_detectors(options)
    search(rows, sets, options)
    run = {
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "command": COMMAND,
        "sets": {
            key: {"title": s.title, "images": len(s.photos), "faces": sum(map(len, s.boxes))}
            for key, s in sets.items()
        },
        "rows": [row_of(detector, sets, options.work / "found") for detector in rows],
    }
    add_failures(run, rows, sets, options)
    add_times(run, rows, sets, options.rounds)
    text = table.figures(run)
    print(text)
    write(run, text, options)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--float32", metavar="FILE", help="ours, .weights.h5 or .tflite")
    parser.add_argument("--int8", metavar="FILE", help="ours, .tflite")
    parser.add_argument("--models", nargs="*", default=[], help="more rows: files or presets")
    parser.add_argument("--yunet", type=Path, help=f"default: DATA/{YUNET}")
    parser.add_argument("--ultra-light", type=Path, help=f"default: DATA/{ULTRA_LIGHT}")
    parser.add_argument("--work", type=Path, default=Path("runs/own-weights"))
    parser.add_argument("--out", type=Path, default=Path("docs"))
    parser.add_argument("--limit", type=int, help="images of each set, for a quick run")
    parser.add_argument("--fddb-step", type=int, default=1, help="take every n-th FDDB image")
    parser.add_argument("--minutes", type=float, help="stop detection after about this time")
    parser.add_argument("--rounds", type=int, default=20, help="of timing; 0 for none")
    parser.add_argument("--fresh", action="store_true", help="delete earlier results")
    return parser.parse_args()


def open_detectors(options: argparse.Namespace) -> list[detectors.Detector]:
    """The rows of the table."""
    rows = [
        detectors.package_detector("public", f"public {detectors.PUBLIC}", detectors.PUBLIC),
        detectors.yunet(options.yunet or options.data / YUNET),
        detectors.ultra_light(options.ultra_light or options.data / ULTRA_LIGHT),
    ]
    for key in ("float32", "int8"):
        file = getattr(options, key) or packaged(key)
        if file:
            rows.append(detectors.package_detector(key, f"**ours** {key}", file))
    for number, model in enumerate(options.models):
        path = Path(model)
        name = f"{path.parent.name}/{path.name}" if path.parent.name else model
        rows.append(detectors.package_detector(f"model{number}", name, model))
    return rows


def packaged(kind: str) -> str | None:
    """The package's own file of the default preset; None where its weights are not packaged."""
    path = get_preset(DEFAULT_PRESET).source.file("tflite", kind)
    return None if path is None else str(path)


def search(rows, sets: dict, options: argparse.Namespace) -> None:
    """All detectors' results for every set, as far as they are missing."""
    begin, folder = time.monotonic(), options.work / "found"
    for detector in rows:
        for images in sets.values():
            for size in sizes_of(detector, images):
                if found_file(folder, detector, images, size).is_file():
                    continue
                if options.minutes and time.monotonic() - begin > 60 * options.minutes:
                    sys.exit("Stopped after --minutes; repeat the command to go on.")
                words = f"{detector.name}: {images.title}, {size}"
                find_all(
                    detector,
                    images,
                    size,
                    folder,
                    lambda photos, words=words: track(photos, words, console=STDERR),
                )


def row_of(detector, sets: dict, folder: Path) -> dict:
    """A detector's figures, from the kept results."""
    row = {
        "key": detector.key,
        "name": detector.name,
        "mark": detector.mark,
        "bytes": detector.bytes,
        "ap": {},
        "points": {},
    }
    for key, images in sets.items():
        for size in sizes_of(detector, images):
            answers = find_all(detector, images, size, folder)
            if images.points is None:
                ap = precision(answers, images, range(len(images.photos)))
                row["ap"].setdefault(key, {})[size] = ap
            else:
                row["points"][key] = point_errors(answers, images, 0.5)
    return row


def add_failures(run: dict, rows, sets: dict, options: argparse.Namespace) -> None:
    """Draws the sheet of photos, and adds the worst failures of ours, or of the last row."""
    chosen = next((d for d in rows if d.key == "float32"), rows[-1])

    def found(detector):
        folder = options.work / "found"
        return {key: find_all(detector, sets[key], "640", folder) for key in table.DETECTION}

    public, ours = found(rows[0]), found(chosen)
    sheet = options.work / "sheet.jpg"
    quality = write_sheet(sheet, draw_sheet([("public", public), ("ours", ours)], sets, PHOTOS))
    STDERR.print(f"{sheet}: {sheet_words(PHOTOS)}; JPEG quality {quality}")
    run["failures"] = worst_failures(ours, sets, found(rows[1]))


def add_times(run: dict, rows, sets: dict, rounds: int) -> None:
    """Milliseconds into the rows."""
    if not rounds:
        return
    alone = network_times(rows, rounds)
    whole = end_to_end_times(rows, sets, rounds)
    for row in run["rows"]:
        row["network_ms"], row["end_to_end_ms"] = alone.get(row["key"]), whole[row["key"]]


def write(run: dict, text: str, options: argparse.Namespace) -> None:
    """The figures as JSON and, of a complete run, as tables in the page."""
    content = json.dumps(run, indent=1) + "\n"
    write_whole(options.work / f"{PAGE}.json", content)
    if options.limit or options.fddb_step > 1:
        return
    (options.out / "figures").mkdir(parents=True, exist_ok=True)
    write_whole(options.out / "figures" / f"{PAGE}.json", content)
    page = options.out / f"{PAGE}.md"
    before = page.read_text(encoding="utf-8") if page.is_file() else "# Weights of our own\n"
    write_whole(page, put_between_marks(before, text, table.BEGIN, table.END))
    STDERR.print(f"wrote {page} and {PAGE}.json")


if __name__ == "__main__":
    main()
