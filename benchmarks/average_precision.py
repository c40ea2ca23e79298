"""Average precision at IoU 0.5 of runtimes, or of this checkout beside another one's.

    python benchmarks/average_precision.py fddb-boxes LABELS PHOTOS --size 160 320 --other CHECKOUT
    python benchmarks/average_precision.py fddb-boxes LABELS PHOTOS --runtimes litert openvino-bf16

The kind of the labels is one of `data convert`'s, a size is a short edge, 0 the images' own. Each row is a
process of its own; beside AP stands the CPU time of an image in milliseconds, reading it included.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent


def measure(
    kind: str, labels: Path, photos: Path, preset: str, runtime: str, sizes: list[int]
) -> list[tuple[float, float]]:
    """AP and milliseconds at each short edge, by the package that is imported."""
    from retinaface_tf import RetinaFace
    from retinaface_tf.data.readers.registry import READERS
    from retinaface_tf.evaluation.average_precision import average_precision

    images = [image for image in READERS[kind](labels, photos) if image.path.is_file()]
    truth = [(image.boxes, image.ignored) for image in images]
    paths = [str(image.path) for image in images]
    detector = RetinaFace.from_preset(preset, runtime=runtime, threshold=0.02)
    figures = []
    for size in sizes:
        begin = time.process_time()
        found = list(detector.stream(paths, size=size or None))
        spent = 1000 * (time.process_time() - begin) / len(paths)
        ap = average_precision([(f.boxes, f.scores) for f in found], truth, 0.5)
        figures.append((ap, spent))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind")
    parser.add_argument("labels", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--size", type=int, nargs="+", default=[640])
    parser.add_argument("--preset", default="lite")
    parser.add_argument("--runtimes", nargs="+", default=["auto"])
    parser.add_argument("--other", type=Path, help="a checkout of another commit")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        (runtime,) = options.runtimes
        given = (options.kind, options.labels, options.photos, options.preset)
        print(json.dumps(measure(*given, runtime, options.size)))
        return
    sizes = (f"short edge {size}" if size else "own size" for size in options.size)
    print("| checkout | runtime |", " | ".join(sizes), "|")
    print("|---|---|" + "--:|" * len(options.size))
    rows = [(c, r) for c in (options.other, HERE) if c for r in options.runtimes]
    for checkout, runtime in rows:
        path = filter(None, (str(checkout.resolve()), os.environ.get("PYTHONPATH")))
        done = subprocess.run(
            [sys.executable, __file__, *sys.argv[1:], "--runtimes", runtime, "--child"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        figures = json.loads(done.stdout.splitlines()[-1])
        print(
            f"| {checkout.name} | {runtime} |",
            " | ".join(f"{100 * ap:.2f}, {ms:.1f} ms" for ap, ms in figures),
            "|",
        )


if __name__ == "__main__":
    main()
