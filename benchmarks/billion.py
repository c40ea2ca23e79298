"""A billion photos at 1/10,000: what each step costs, and a run of 100,000 small photos with faults.

    python benchmarks/billion.py rate --data DATA         # core seconds and memory for each photo
    python benchmarks/billion.py listing --work WORK      # what finding photos costs
    python benchmarks/billion.py simulate --data DATA --work WORK

`simulate` makes tars of 1,000 face crops of DATA, 1 % of them corrupt, and runs `detect --engine
processes` over them while it kills a worker every few seconds, and the whole run twice. The store is
slow: each time a tar is opened, the worker waits, as it would for a bucket, and one time in a hundred
long. At the end every photo must be there once, with the faces it has by itself, or with its error.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import tracemalloc
from pathlib import Path

IMAGES, A_TAR, CORRUPT = 100_000, 1_000, 0.01
WAIT, LONG_WAIT, LONG_SHARE = 0.2, 5.0, 0.01
KILL_SECONDS = 8
SETTINGS = ["--preset", "lite", "--precision", "int8", "--runtime", "litert"]

# What every Python process of the run begins with: a store that answers late.
SLOW_STORE = f"""
import pathlib, random, time
_open = pathlib.Path.open
def slow(self, *args, **kwargs):
    if str(self).endswith(".tar"):
        time.sleep({LONG_WAIT} if random.random() < {LONG_SHARE} else {WAIT})
    return _open(self, *args, **kwargs)
pathlib.Path.open = slow
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["rate", "listing", "simulate"])
    parser.add_argument("--data", type=Path, help="the photo collection")
    parser.add_argument("--work", type=Path, help="folder for copies and results")
    parser.add_argument("--images", type=int, default=IMAGES)
    options = parser.parse_args()
    globals()[options.what](options)


def used() -> float:
    """Core seconds of this process and its children."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, kinds))


def rate(options) -> None:
    from retinaface_tf import RetinaFace, load_image
    from retinaface_tf.images.listing import list_images

    paths = [path for path, _ in list_images([options.data])][:600]
    detector = RetinaFace.from_preset("lite", precision="int8", runtime="litert", threads=1)
    import cv2

    cv2.setNumThreads(1)
    detector.detect(paths[0])
    begun = used()
    pixels = [load_image(path).size / 3 for path in paths]
    decoding, begun = used() - begun, used()
    faces = sum(len(found) for found in detector.stream(paths, batch_size=8))
    whole = used() - begun
    count, size = len(paths), sum(path.stat().st_size for path in paths)
    print(
        f"{count} photos of {sum(pixels) / count / 1e6:.2f} million pixels and {size / count / 1e3:.0f} kB, "
        f"{faces} faces: {1000 * whole / count:.1f} core ms a photo, {1000 * decoding / count:.1f} of them "
        f"decoding; at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB"
    )


def listing(options) -> None:
    """Files of a folder, and the same in tars and in tables, as the driver of a run looks for them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from retinaface_tf.bulk.shards import digest_shards, list_shards

    count = options.images
    small = small_jpeg(0)
    shutil.rmtree(options.work, ignore_errors=True)
    files, tars, tables = (options.work / name for name in ("files", "tars", "tables"))
    for number in range(count):
        path = files / f"{number // 1000:04d}" / f"{number:07d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(small)
    write_tars(tars, [(f"{number:07d}.jpg", small) for number in range(count)])
    tables.mkdir()
    for part in range(count // A_TAR):
        pq.write_table(pa.table({"image": [small] * A_TAR}), tables / f"part-{part:05d}.parquet")
    for what, folder in (("files", files), ("tars", tars), ("tables", tables)):
        begun = time.monotonic()
        digest_shards(list_shards([folder], rows=500))
        seconds = time.monotonic() - begun
        tracemalloc.start()
        shards = list_shards([folder], rows=500)
        (kept, most), _ = tracemalloc.get_traced_memory(), tracemalloc.stop()
        print(
            f"{count} photos in {what}: {1e6 * seconds / count:.1f} us a photo, {kept / count:.0f} bytes "
            f"kept and {most / count:.0f} at most; {len(shards)} shards"
        )


def small_jpeg(number: int) -> bytes:
    import cv2
    import numpy as np

    pixels = np.random.default_rng(number).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    return cv2.imencode(".jpg", cv2.resize(pixels, (64, 64)))[1].tobytes()


def write_tars(folder: Path, named: list[tuple[str, bytes]]) -> None:
    folder.mkdir(parents=True)
    for first in range(0, len(named), A_TAR):
        with tarfile.open(folder / f"part-{first // A_TAR:05d}.tar", "w") as tar:
            for name, content in named[first : first + A_TAR]:
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))


def simulate(options) -> None:
    from retinaface_tf import RetinaFace
    from retinaface_tf.bulk import read_results
    from retinaface_tf.errors import ImageError

    work, count = options.work, options.images
    shutil.rmtree(work, ignore_errors=True)
    crops = sorted((options.data / "facepoint_crops_80px").rglob("*.jpg"))
    contents = [path.read_bytes() for path in crops]
    broken = random.Random(0)
    named, expected = [], []
    for number in range(count):
        content, which = contents[number % len(contents)], number % len(contents)
        if broken.random() < CORRUPT:
            content, which = [b"no image", content[: len(content) // 3], b""][number % 3], None
        named.append((f"{number:07d}.jpg", content))
        expected.append(which)
    write_tars(work / "tars", named)
    (work / "faults").mkdir()
    (work / "faults" / "sitecustomize.py").write_text(SLOW_STORE)
    detector = RetinaFace.from_preset("lite", precision="int8", runtime="litert", threads=1)
    alone = [[list(face.box) for face in detector.detect(content)] for content in contents]
    print(
        f"{count} photos in {len(list((work / 'tars').iterdir()))} tars, {expected.count(None)} corrupt"
    )

    out, begun, kills = work / "faces", time.monotonic(), 0
    for part in (0.3, 0.6, None):  # the whole run is killed at these shares
        kills += run(work, out, None if part is None else part * count / 500)
        print(
            f"{len(list(out.glob('faces-*.parquet')))} files after {time.monotonic() - begun:.0f} s"
        )
    seen, errors, wrong = [], 0, 0
    for result in read_results(out):
        number = int(Path(result.image).stem)
        seen.append(number)
        failed = isinstance(result.answer, ImageError)
        errors += failed
        which = expected[number]
        same = (
            failed
            if which is None
            else not failed and [list(face.box) for face in result.answer] == alone[which]
        )
        wrong += not same
    seconds = time.monotonic() - begun
    print(
        json.dumps(
            {
                "seconds": round(seconds),
                "workers killed": kills,
                "rows": len(seen),
                "photos": len(set(seen)),
                "errors": errors,
                "other than alone": wrong,
            }
        )
    )
    assert sorted(seen) == list(range(count)) and not wrong and errors == expected.count(None)


def run(work: Path, out: Path, until: float | None) -> int:
    """One start of the command: workers are killed on the way, all of it once `until` files are there."""
    paths = os.pathsep.join([str(work / "faults"), *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "retinaface_tf",
            "detect",
            str(work / "tars"),
            *SETTINGS,
            "--engine",
            "processes",
            "--workers",
            "4",
            "--out",
            str(out),
        ],
        env={**os.environ, "PYTHONPATH": paths},
        stderr=subprocess.PIPE,
        text=True,
    )
    kills, last = 0, time.monotonic()
    while process.poll() is None:
        time.sleep(0.1)
        if until is not None and len(list(out.glob("faces-*.parquet"))) >= until:
            process.send_signal(signal.SIGKILL)
        elif time.monotonic() > last + KILL_SECONDS:
            last = time.monotonic()
            workers = children(process.pid)
            if len(workers) > 1:
                os.kill(random.choice(workers), signal.SIGKILL)
                kills += 1
    _, said = process.communicate()
    # 1: photos failed, as some must.
    assert process.returncode in (1, -signal.SIGKILL), said
    return kills


def children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for path in listed for child in path.read_text().split()]


if __name__ == "__main__":
    main()
