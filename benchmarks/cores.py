"""A folder of mixed sizes on one core and on two: images a second.

    python benchmarks/cores.py FOLDER ... [--images 300] [--preset lite] [--rounds 3] [--other CHECKOUT]

`stream` over images drawn by a seed, in a process of its own that may use so many cores, all taking turns; the
best round counts. `two apart` is two such processes at once, one core each: what the memory allows. `--other` is
another checkout, beside this one.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
CODE = """
import os, sys, time
cores, preset, *paths = sys.argv[1:]
os.sched_setaffinity(0, map(int, cores.split(",")))
from retinaface_tf import RetinaFace
detector = RetinaFace.from_preset(preset)
list(detector.stream(paths[:20]))
print(flush=True)
input()
begin = time.perf_counter()
list(detector.stream(paths))
print(len(paths) / (time.perf_counter() - begin), flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--preset", default="lite")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--other", type=Path)
    options = parser.parse_args()
    paths = drawn(options.folders, options.images)
    cases = {"one core": ["0"], "two cores": ["0,1"], "two apart": ["0", "1"]}
    best: dict[tuple[Path, str], float] = {}
    for _ in range(options.rounds):
        for checkout in filter(None, (HERE, options.other)):
            for case, cores in cases.items():
                rate = images_per_second(checkout, cores, [options.preset, *paths])
                best[checkout, case] = max(rate, best.get((checkout, case), 0))
    for (checkout, case), rate in best.items():
        print(f"{checkout} {case}: {rate:.0f} images/s, {rate / best[checkout, 'one core']:.2f}")


def drawn(folders: list[Path], count: int) -> list[str]:
    """As many of each folder, mixed."""
    found = []
    for folder in folders:
        photos = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".png"))
        random.Random(1).shuffle(photos)
        found += map(str, photos[: count // len(folders)])
    random.Random(2).shuffle(found)
    return found


def images_per_second(checkout: Path, cores: list[str], arguments: list[str]) -> float:
    """Of as many processes as there are sets of cores, together; they begin at once."""
    running = [
        subprocess.Popen(
            [sys.executable, "-P", "-c", CODE, which, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"PYTHONPATH": str(checkout)},
        )
        for which in cores
    ]
    for process in running:
        process.stdout.readline()
    for process in running:
        process.stdin.write("\n")
        process.stdin.flush()
    return sum(float(process.communicate()[0]) for process in running)


if __name__ == "__main__":
    main()
