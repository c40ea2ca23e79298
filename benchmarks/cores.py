"""A folder of mixed sizes on one core and on two: images a second.

    python benchmarks/cores.py FOLDER ... [--images 300] [--preset lite] [--rounds 3] [--times 4] [--other CHECKOUT]

`stream` over images drawn by a seed, each `--times` times, in a process of its own that may use so many cores, all taking turns; the
best round counts. `processes` is what `detect` does with so many, their start included. `two apart` is two programs at once, one
core each: what the memory allows. Then the CPU time of each stage, on one core, and how long threads wait for images, on two. `--other` is another checkout, beside this one.
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
cores, preset, times, *paths = sys.argv[1:]
paths *= int(times)
cores, _, processes = cores.partition(" ")
os.sched_setaffinity(0, map(int, cores.split(",")))
from retinaface_tf import RetinaFace
detector = RetinaFace.from_preset(preset)
list(detector.stream(paths[:20]))
print(flush=True)
input()
begin = time.perf_counter()
if processes:
    from retinaface_tf.inference.in_processes import stream_in_processes
    with stream_in_processes(detector, paths) as answers:
        list(answers)
else:
    list(detector.stream(paths))
print(len(paths) / (time.perf_counter() - begin), flush=True)
"""

STAGES = """
import os, sys, time
from collections import Counter
from retinaface_tf import RetinaFace
from retinaface_tf.inference import backend
from retinaface_tf.inference.runtimes import litert
os.sched_setaffinity(0, [0])
spent = Counter()

def timed(home, name, stage):
    function = getattr(home, name)
    def run(*args, **options):
        begin = time.thread_time()
        try:
            return function(*args, **options)
        finally:
            spent[stage] += time.thread_time() - begin
    setattr(home, name, run)

timed(backend.NetworkBackend, "prepare", "read and scale the image")
timed(backend, "stack_padded", "pad")
timed(litert._Session, "__init__", "interpreters for a size")
timed(litert._Session, "resize", "interpreters for a size")
timed(litert._Session, "__call__", "network")
timed(backend, "read_faces", "read faces from the outputs")
detector = RetinaFace.from_preset(sys.argv[1])
begin = time.process_time()
list(detector.stream(sys.argv[2:]))
spent["all else"] = time.process_time() - begin - sum(spent.values())
for stage, seconds in spent.most_common():
    print(f"{stage}: {1000 * seconds / len(sys.argv[2:]):.2f} ms an image, {seconds / sum(spent.values()):.0%}")

os.sched_setaffinity(0, [0, 1])
search, inside = backend.NetworkBackend.detect, Counter()

def watched(*arguments):
    begin = time.perf_counter()
    answers = search(*arguments)
    inside["seconds"] += time.perf_counter() - begin
    return answers

backend.NetworkBackend.detect = watched
detector = RetinaFace.from_preset(sys.argv[1])
begin = time.perf_counter()
list(detector.stream(sys.argv[2:] * 4))
waited = 1 - inside["seconds"] / (time.perf_counter() - begin)
print(f"two cores: nothing is searched while images are read, {waited:.1%} of the time")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--preset", default="lite")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--times", type=int, default=4, help="how often each image is searched")
    parser.add_argument("--other", type=Path)
    options = parser.parse_args()
    paths = drawn(options.folders, options.images)
    cases = {"one core": ["0"], "two cores": ["0,1"], "two apart": ["0", "1"]}
    processes = {"two cores, processes": ["0,1 processes"]}
    best: dict[tuple[Path, str], float] = {}
    for _ in range(options.rounds):
        for checkout in filter(None, (HERE, options.other)):
            for case, cores in (cases | (processes if checkout == HERE else {})).items():
                rate = images_per_second(
                    checkout, cores, [options.preset, str(options.times), *paths]
                )
                print(f"{checkout} {case}: {rate:.0f}", flush=True)
                best[checkout, case] = max(rate, best.get((checkout, case), 0))
    for (checkout, case), rate in best.items():
        print(f"{checkout} {case}: {rate:.0f} images/s, {rate / best[checkout, 'one core']:.2f}")

    subprocess.run(
        [sys.executable, "-P", "-c", STAGES, options.preset, *paths],
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(HERE)},
    )


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
