"""Memory of the process while it searches images of ever new sizes, as a curve.

    python benchmarks/memory.py [--images 500] [--folder DIR] [--runtime keras]

Without `--folder`, random pixels cut to as many different sizes (200..1400 by 200..1080); with it,
the folder's photos, one of each size that occurs. The curve should be flat after the first few dozen.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from PIL import Image

from retinaface_tf import RetinaFace


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--preset", default="mobilenet0.25")
    parser.add_argument("--runtime", default="keras")
    options = parser.parse_args()

    images = photos(options.folder, options.images) if options.folder else noise(options.images)
    detector = RetinaFace.from_preset(options.preset, runtime=options.runtime)
    print(f"{'images':>8s} {'resident MiB':>13s}")
    marks = {1, 10, 25, 50, *range(100, options.images + 1, 50), options.images}
    peak, sizes = 0.0, set()
    for number, faces in enumerate(detector.stream(images, size="original"), start=1):
        sizes.add(faces.image_size)
        if number in marks:
            now = resident()
            peak = max(peak, now)
            print(f"{number:8d} {now:13.0f} {'#' * round(now / 25)}", flush=True)
    print(f"{len(sizes)} different sizes, peak {peak:.0f} MiB")


def different_sizes(count: int) -> list[tuple[int, int]]:
    rng = np.random.default_rng(0)
    chosen: dict[tuple[int, int], None] = {}
    while len(chosen) < count:
        chosen[int(rng.integers(200, 1080)), int(rng.integers(200, 1400))] = None
    return list(chosen)


def noise(count: int):
    pixels = np.random.default_rng(1).integers(0, 256, (1080, 1400, 3), dtype=np.uint8)
    return (pixels[:height, :width] for height, width in different_sizes(count))


def photos(folder: Path, count: int) -> list[Path]:
    """The first photos of a folder that differ in size."""
    chosen: dict[tuple[int, int], Path] = {}
    for path in sorted(folder.rglob("*.jpg")):
        with Image.open(path) as image:
            chosen.setdefault(image.size, path)
    if len(chosen) < count:
        raise SystemExit(
            f"{folder} has photos of {len(chosen)} sizes, fewer than --images {count}."
        )
    return list(chosen.values())[:count]


def resident() -> float:
    """Resident memory of this process in MiB (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    main()
