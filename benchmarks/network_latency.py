"""What a network's shape costs in LiteRT: milliseconds and ratios to the public network, in one run.

    python benchmarks/network_latency.py [--size 640] [--rounds 20] [--int8] [--work DIR]
        [--networks PRESET... | KEY=VALUE,KEY=VALUE ...]

One thread, random weights (they cost what trained ones do), the candidates taking turns. A network is
a preset, changes of it, as in `lite,backbone=yunet-dense`, or of `RetinaFaceConfig`'s defaults, as in
`channels=32,negative_slope=0`. `--int8` adds
the int8 file of each; `--work` keeps the files for another run.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from rich.console import Console
from rich.table import Table

from retinaface_tf import get_preset, list_presets
from retinaface_tf.config import RetinaFaceConfig

DEFAULT = (
    *("mobilenet0.25", "negative_slope=0", "negative_slope=0,channels=48"),
    *("negative_slope=0,channels=40", "negative_slope=0,channels=32"),
    *("negative_slope=0,channels=32,shared_heads=true",),
    "backbone=mobilenet0.25-paper,negative_slope=0,channels=32",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--networks", nargs="+", default=list(DEFAULT))
    parser.add_argument("--size", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--int8", action="store_true")
    parser.add_argument("--work", type=Path, help="folder that keeps the exported files")
    options = parser.parse_args()
    names = list(dict.fromkeys(["mobilenet0.25", *options.networks]))
    console = Console(width=120)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.work or Path(temporary)
        found = {}
        for precision in ("float32", "int8")[: 1 + options.int8]:
            runs = {name: exported(name, precision, options.size, folder) for name in names}
            found[precision] = times(runs, options.rounds)
        console.print(table("network", found))


def read_network(text: str) -> RetinaFaceConfig:
    """A preset's configuration or the default one, with changes."""
    first, *changes = text.split(",")
    values = {}
    if first in list_presets():
        values = get_preset(first).config.to_dict()
    else:
        changes = [first, *changes]
    for change in changes:
        key, _, value = change.partition("=")
        try:
            values[key] = json.loads(value)
        except ValueError:
            values[key] = value
    return RetinaFaceConfig.from_dict(values)


def exported(text: str, precision: str, size: int, folder: Path):
    """A function that runs the network's .tflite once."""
    path = folder / f"{text.replace('=', '-')}-{size}-{precision}.tflite"
    if not path.is_file():
        from retinaface_tf.export.tflite import export_tflite
        from retinaface_tf.models import build_retinaface

        rng = np.random.default_rng(0)
        images = [rng.integers(0, 256, (size, size, 3), np.uint8) for _ in range(2)]
        export_tflite(
            build_retinaface(read_network(text)),
            path,
            size=(size, size),
            precision=precision,
            calibration=images if precision == "int8" else None,
        )
    return runner(path.read_bytes(), (size, size))


def runner(content: bytes, size: tuple[int, int]):
    """A function that runs a .tflite once, on an image of (height, width), and gives the seconds it took."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, num_threads=1)
    (entry,) = interpreter.get_input_details()
    if tuple(entry["shape"]) != (1, *size, 3):
        interpreter.resize_tensor_input(entry["index"], [1, *size, 3])
    interpreter.allocate_tensors()
    image = np.random.default_rng(0).integers(0, 256, (1, *size, 3)).astype(entry["dtype"])

    def run() -> float:
        interpreter.set_tensor(entry["index"], image)
        # The thread's own time: neighbours on the machine do not count.
        begin = time.process_time()
        interpreter.invoke()
        return time.process_time() - begin

    return run


def times(runs: dict, rounds: int) -> dict[str, float]:
    """Median milliseconds by name, the functions taking turns."""
    collected = {name: [] for name in runs}
    for count in range(rounds + 2):
        for name, run in runs.items():
            seconds = run()
            if count >= 2:
                collected[name].append(1000 * seconds)
    return {name: float(np.median(values)) for name, values in collected.items()}


def table(title: str, found: dict[str, dict[str, float]]) -> Table:
    first = next(iter(found["float32"].values()))
    result = Table(title, *(c for p in found for c in (f"{p} ms", "ratio")))
    for name in found["float32"]:
        cells = [f"{v[name]:.1f} {v[name] / first:.2f}".split() for v in found.values()]
        result.add_row(name, *(cell for pair in cells for cell in pair))
    return result


if __name__ == "__main__":
    main()
