"""Bulk runs of 5,000 images: speed of the engines side by side, memory, kills, and two nodes.

    python benchmarks/bulk.py prepare --data DATA --work WORK   # small copies, 50 of them corrupt
    python benchmarks/bulk.py speed --work WORK                 # plain loop, processes, Ray in turn
    python benchmarks/bulk.py memory --work WORK                # all images four times over
    python benchmarks/bulk.py kill --work WORK --engine ray     # the driver killed, then resumed
    python benchmarks/bulk.py worker --work WORK                # one worker process killed
    python benchmarks/bulk.py cluster --work WORK               # two nodes on loopback, one killed

Images are real ones of DATA (`fddb`, `unlabelled`, `facepoint_crops_80px`), each once under a name
of its own, shrunk to a longest side of 320 so that a run takes a minute; half of them are files,
a quarter in tars and a quarter in Parquet tables. Every check that counts images reads the Parquet
files of the run. `cluster` starts and stops a Ray of its own, on 127.0.0.2 and 127.0.0.3.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections import Counter
from pathlib import Path

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

REPOSITORY = Path(__file__).resolve().parent.parent
IMAGES, CORRUPT, SIDE = 5000, 50, 320
SHARD = 125
# What one would write without any of this.
PLAIN = """
import sys
from retinaface_tf import RetinaFace
from retinaface_tf.bulk.shards import list_shards
from retinaface_tf.errors import ImageError
detector = RetinaFace.from_preset("mobilenet0.25")
faces = 0
for shard in list_shards([sys.argv[1]], rows=500):
    for image in shard.part.images():
        try:
            faces += len(detector.detect(image.content))
        except ImageError:
            pass
print(f"plain loop: {faces} faces")
"""
COMMAND = "import sys; from retinaface_tf.cli import main; sys.argv[0] = 'retinaface-tf'; main()"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["prepare", "speed", "memory", "kill", "worker", "cluster"])
    parser.add_argument("--work", type=Path, required=True, help="folder for copies and results")
    parser.add_argument("--data", type=Path, help="of prepare: the photo collection")
    parser.add_argument("--engine", default="processes", help="of memory and kill")
    parser.add_argument("--engines", nargs="*", default=["plain", "loop", "processes", "ray"])
    options = parser.parse_args()
    globals()[options.what](options)


# --- images


def prepare(options) -> None:
    """WORK/images: files/, shard-*.tar, table-*.parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = options.work / "images"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "files").mkdir(parents=True)
    suffixes = (".jpg", ".jpeg", ".png")
    sources = []
    for name in ("fddb", "unlabelled", "facepoint_crops_80px"):
        sources += sorted(
            p for p in (options.data / name).rglob("*") if p.suffix.lower() in suffixes
        )
    sources = sources[: IMAGES - CORRUPT]
    assert len(set(sources)) == IMAGES - CORRUPT, len(sources)
    contents = [shrunk(path) for path in sources]
    for number in range(CORRUPT):  # spread over the whole, and damaged in three ways
        victim = contents[number * 90]
        damaged = [b"no image", victim[: len(victim) // 3], b""][number % 3]
        contents.insert(number * 100 + 7, damaged)
    named = [(f"{number:05d}.jpg", content) for number, content in enumerate(contents)]
    half, quarter = IMAGES // 2, IMAGES // 4
    for name, content in named[:half]:
        (folder / "files" / name).write_bytes(content)
    for part in range(2):
        step = quarter // 2
        members = named[half + part * step : half + (part + 1) * step]
        with tarfile.open(folder / f"shard-{part}.tar", "w") as tar:
            for name, content in members:
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
        rows = named[half + quarter + part * step : half + quarter + (part + 1) * step]
        table = pa.table({"id": [n for n, _ in rows], "image": [c for _, c in rows]})
        pq.write_table(table, folder / f"table-{part}.parquet", row_group_size=100)
    print(f"{len(named)} images in {folder}, {CORRUPT} of them corrupt")


def shrunk(path: Path) -> bytes:
    import cv2

    from retinaface_tf.images.read import read_image

    image = read_image(path)
    scale = min(1, SIDE / max(image.shape[:2]))
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()


# --- runs


def start(options, engine: str, *more: str, passes: int = 1) -> subprocess.Popen:
    """`retinaface-tf detect` of all images with an engine; `passes` lists the images as often."""
    inputs = [str(options.work / "images")] * passes
    arguments = ["detect", *inputs, "--preset", "mobilenet0.25", "--engine", engine]
    arguments += ["--name-column", "id"]
    arguments += ["--out", str(out_of(options, engine)), "--shard-size", str(SHARD), *more]
    paths = [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    run = [PLAIN, *inputs] if engine == "plain" else [COMMAND, *arguments]
    return subprocess.Popen([sys.executable, "-c", *run], env=environment)


def out_of(options, engine: str) -> Path:
    return options.work / f"faces-{engine}"


def speed(options) -> None:
    """A plain loop over `detect`, an image at a time, and the engines (`loop` is batches from
    `stream`); each from the start of the command to its end."""
    reference = None
    print("engine     | seconds | images/s | exit | resident MiB of the workers at 10 ... 100 %")
    for engine in options.engines:
        shutil.rmtree(out_of(options, engine), ignore_errors=True)
        begun = time.perf_counter()
        process = start(options, engine)
        with Memory(process.pid) as memory:
            code = process.wait()
        seconds = time.perf_counter() - begun
        print(
            f"{engine:10s} | {seconds:7.1f} | {IMAGES / seconds:8.1f} | {code:4d} | "
            f"{memory.at_tenths()}"
        )
        if engine == "plain":
            continue
        rows = summary(out_of(options, engine))
        print(
            f"           {check(rows)}; once running {steady(out_of(options, engine)):.0f} a second"
        )
        answers = {name: answer for name, _, answer in rows}
        if reference is None:
            reference = answers
        elif answers != reference:
            raise SystemExit(f"{engine} and the engine before it differ")
    print("all engines: the same faces, bit for bit")


def memory(options, passes: int = 4) -> None:
    """A longer run, whose images all come again: what grows still in the last pass is a leak."""
    out = out_of(options, options.engine)
    shutil.rmtree(out, ignore_errors=True)
    process = start(options, options.engine, passes=passes)
    with Memory(process.pid) as samples:
        while process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=10)
            done = len(files(out)) * SHARD
            print(f"{done:6d} images, {samples.last()} MiB resident in workers", flush=True)
    code = process.returncode
    names = Counter(name for name, _, _ in summary(out))
    print(
        f"{sum(names.values())} rows of {len(names)} images, {passes} times over, exit code {code}"
    )
    print(f"resident MiB of the workers at 10 ... 100 %: {samples.at_tenths()}")


def kill(options) -> None:
    """SIGKILL of the driver in the middle, a second one later, then to the end."""
    out = out_of(options, options.engine)
    shutil.rmtree(out, ignore_errors=True)
    total = -(-IMAGES // SHARD)
    for share in (0.35, 0.7):
        process = start(options, options.engine)
        wait_for_files(process, out, int(total * share))
        process.kill()
        process.wait()
        time.sleep(5)  # for workers to see that they are alone
        done = files(out)
        print(f"killed with {len(done)} of {total} files done")
    written = {path.name: path.stat().st_mtime_ns for path in done}
    process = start(options, options.engine)
    print(f"resumed: exit code {process.wait()}")
    now = {path.name: path.stat().st_mtime_ns for path in files(out)}
    same = sum(now[name] == moment for name, moment in written.items())
    print(f"{same} of {len(written)} files were left as they were, {len(now) - same} done now")
    print(check(summary(out)))


def worker(options) -> None:
    """SIGKILL of single worker processes, the driver goes on."""
    out = out_of(options, "processes")
    shutil.rmtree(out, ignore_errors=True)
    process = start(options, "processes")
    killed = []
    for share in (0.2, 0.5):
        wait_for_files(process, out, int(IMAGES / SHARD * share))
        victim = next(p for p in descendants(process.pid) if p not in killed)
        os.kill(victim, signal.SIGKILL)
        killed.append(victim)
    print(f"workers {killed} killed; the run's exit code {process.wait()}")
    rows = summary(out)
    print(check(rows))
    print(f"files by worker: {dict(workers_of(out))}")


def cluster(options) -> None:
    """Two Ray nodes; one of them is killed in the middle."""
    os.environ["RAY_AUTH_MODE"], os.environ["RAY_AUTH_TOKEN"] = "token", secrets.token_hex(32)
    ray = str(Path(sys.executable).parent / "ray")
    common = ["--num-cpus=1", "--object-store-memory=100000000", "--block"]
    head, second = "127.0.0.2", "127.0.0.3"
    folder = Path("/tmp") / f"rf-{os.getpid()}"  # Ray's sockets want a short path
    with contextlib.ExitStack() as stack:
        local = ["--include-dashboard=false", f"--temp-dir={folder}"]
        nodes = []
        for more in (
            ["--head", f"--node-ip-address={head}", "--port=6390", *local],
            [f"--address={head}:6390", f"--node-ip-address={second}"],
        ):
            node = subprocess.Popen(
                [ray, "start", *more, *common],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            stack.callback(end_tree, node)
            nodes.append(node)
            time.sleep(15)
        for title, share in (("both nodes to the end", None), ("one node killed", 0.35)):
            out = out_of(options, "ray")
            shutil.rmtree(out, ignore_errors=True)
            process = start(options, "ray", "--ray-address", f"{head}:6390")
            if share:
                wait_for_files(process, out, int(IMAGES / SHARD * share))
                end_tree(nodes[1])
            print(f"{title}: exit code {process.wait()}; {check(summary(out))}")
            print(f"  files by node: {dict(workers_of(out, node=True))}")
    shutil.rmtree(folder, ignore_errors=True)


# --- what came of it


def files(out: Path) -> list[Path]:
    return sorted(out.glob("faces-*.parquet"))


def wait_for_files(process: subprocess.Popen, out: Path, count: int) -> None:
    while len(files(out)) < count:
        if process.poll() is not None:
            raise SystemExit(f"the run ended early, with {process.returncode}")
        time.sleep(0.1)


def summary(out: Path) -> list[tuple[str, int, tuple]]:
    """(name, number, answer to compare) of each row."""
    from retinaface_tf import Faces
    from retinaface_tf.bulk import read_results

    rows = []
    for result in read_results(out):
        if isinstance(result.answer, Faces):
            faces = result.answer
            arrays = (faces.boxes, faces.scores, faces.landmarks)
            answer = (faces.image_size, *(array.tobytes() for array in arrays), len(faces))
        else:
            answer = (str(result.answer),)
        rows.append((Path(result.image).name, result.index, answer))
    return rows


def steady(out: Path) -> float:
    """Images a second between the second file and the last, without the start of the engine."""
    moments = sorted(path.stat().st_mtime for path in files(out))
    return (len(moments) - 2) * SHARD / (moments[-1] - moments[1])


def check(rows: list[tuple[str, int, tuple]]) -> str:
    """Counts; ends the program where an image is lost or there twice."""
    names = Counter(name for name, _, _ in rows)
    lost = [f"{n:05d}.jpg" for n in range(IMAGES) if f"{n:05d}.jpg" not in names]
    twice = [name for name, count in names.items() if count > 1]
    numbers = sorted(index for _, index, _ in rows) == list(range(IMAGES))
    corrupt = sum(len(answer) == 1 for _, _, answer in rows)
    faces = sum(answer[-1] for _, _, answer in rows if len(answer) > 1)
    text = (
        f"{len(rows)} rows: {len(lost)} images lost, {len(twice)} there twice, {corrupt} recorded "
        f"as unreadable, {faces} faces"
    )
    if lost or twice or not numbers or corrupt != CORRUPT:
        raise SystemExit(f"WRONG: {text}")
    return text


def workers_of(out: Path, node: bool = False) -> Counter:
    from retinaface_tf.bulk.results import read_report

    names = [read_report(path).worker for path in files(out)]
    return Counter(name.partition("/")[0] if node else name for name in names)


# --- processes


class Memory:
    """Resident memory of the processes that hold a model, twice a second."""

    def __init__(self, root: int):
        self._root, self._samples, self._ended = root, [], threading.Event()

    def __enter__(self):
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._ended.set()

    def _watch(self) -> None:
        while not self._ended.wait(0.5):
            workers = [
                pid
                for pid in [self._root, *descendants(self._root)]
                if b"process_worker" in command_of(pid) or b"ShardActor" in command_of(pid)
            ]
            self._samples.append(sum(map(resident, workers or [self._root])))

    def last(self) -> int:
        return (self._samples or [0])[-1] >> 20

    def at_tenths(self) -> str:
        # The last moments are those of processes that end.
        samples = self._samples[:-4] or [0]
        return " ".join(
            str(samples[max(1, len(samples) * tenth // 10) - 1] >> 20) for tenth in range(1, 11)
        )


def descendants(root: int) -> list[int]:
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                children = [int(c) for c in (task / "children").read_text().split()]
                found += children
                todo += children
    return found


def command_of(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def resident(pid: int) -> int:
    with contextlib.suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def end_tree(process: subprocess.Popen) -> None:
    """A process of ours and all below it, as a machine that loses its power."""
    for pid in [*descendants(process.pid), process.pid]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


if __name__ == "__main__":
    main()
