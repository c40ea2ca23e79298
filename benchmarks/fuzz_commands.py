"""Wrong files and random command lines against `retinaface-tf`: it answers, says why not, and harms nothing.

    python benchmarks/fuzz_commands.py [--files 3000] [--lines 500] [--seed 0] [--keep DIR]

Files of every kind that a command reads are damaged at random and given to it; then random commands with
random options, names and outputs run in a folder of good files, special files and names that are hard to
print. A fault is a traceback, a call that takes longer than the limit, one that ends by a signal, an input
that is not what it was, or more memory than the limit. Prints each fault with the call that shows it, and
exits with 1 where there is one. Commands that load TensorFlow get more time, since its import alone takes
about 10 s.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import stat
import sys
import tempfile
from collections import Counter
from pathlib import Path

os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", PIP_NO_INDEX="1", OMP_NUM_THREADS="1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.fuzz.command import Outcome, call
from benchmarks.fuzz.inputs import write_inputs
from benchmarks.fuzz.mutate import mutate
from benchmarks.fuzz.options import all_commands, command_line
from retinaface_tf.util.files import sha256_of
from retinaface_tf.util.progress import progress_bar

MEMORY = 12 << 30  # of addresses; TensorFlow alone maps some 6 GiB
RESIDENT = 3000  # MiB
SECONDS = 10.0
WITH_TENSORFLOW = 120.0
# What a damaged file of each kind is given to; FILE stands for it.
READERS = {
    "image": ["detect FILE --json out.jsonl --draw drawn --crops crops"],
    "video": ["detect FILE --json out.jsonl --draw drawn"],
    "wider": ["data check wider FILE . --quiet --headers"],
    "retinaface": ["data check retinaface FILE . --quiet --headers"],
    "fddb": [
        "data check fddb FILE . --quiet --headers",
        "evaluate fddb --gt FILE --pred lines.jsonl",
    ],
    "fddb-boxes": ["data check fddb-boxes FILE . --quiet --headers"],
    "coco": ["data check coco FILE . --quiet --headers"],
    "json": ["data check json FILE . --quiet --headers", "evaluate fddb --gt fddb.txt --pred FILE"],
    "model": ["detect photo.jpg --model FILE --json out.jsonl"],
    "weights": ["weights convert FILE new.weights.h5 --preset lite"],
}
# Most calls go to what is quick; a damaged weights file costs TensorFlow's import.
SHARES = {"image": 0.45, "model": 0.15, "video": 0.06, "weights": 0.01}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--files", type=int, default=3000)
    parser.add_argument("--lines", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the calls that showed a fault")
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    faults: list[str] = []
    counts: Counter[str] = Counter()
    with (
        tempfile.TemporaryDirectory(prefix="fuzz-") as root,
        progress_bar(disable=not sys.stderr.isatty()) as bar,
    ):
        task = bar.add_task("damaged files", total=options.files)
        for words, outcome, harm in damaged_files(Path(root), options.files, rng, options.keep):
            bar.advance(task)
            note(words, outcome, harm, faults, counts)
        task = bar.add_task("command lines", total=options.lines)
        for words, outcome, harm in random_lines(Path(root), options.lines, rng):
            bar.advance(task)
            note(words, outcome, harm, faults, counts)
    print(f"{options.files} damaged files and {options.lines} command lines, seed {options.seed}")
    print(", ".join(f"exit {code}: {count}" for code, count in sorted(counts.items())))
    kinds = Counter(fault.split(" | ")[0] for fault in faults)
    for kind, count in kinds.most_common():
        print(f"FAULT {count:4d} x {kind}")
    for fault in faults[:100]:
        print("  ", fault)
    sys.exit(1 if faults else 0)


def note(words: list[str], outcome: Outcome, harm: str | None, faults, counts) -> None:
    """Counts a call, and keeps what was wrong with it."""
    counts[str(outcome.code)] += 1
    memory = f"{outcome.peak:.0f} MiB" if outcome.peak > RESIDENT else None
    for fault in filter(None, (outcome.fault, harm, memory)):
        shown = shlex.join(words).encode("utf-8", "backslashreplace").decode()
        faults.append(f"{fault} | retinaface-tf {shown}")


def damaged_files(root: Path, count: int, rng: np.random.Generator, keep: Path | None):
    """(words, outcome, harm) of a call with each damaged file."""
    good = write_inputs(root / "good")
    kinds = list(READERS)
    rest = (1 - sum(SHARES.values())) / (len(kinds) - len(SHARES))
    chances = np.array([SHARES.get(kind, rest) for kind in kinds])
    for number in range(count):
        kind = kinds[int(rng.choice(len(kinds), p=chances / chances.sum()))]
        source = good[kind][int(rng.integers(len(good[kind])))]
        folder = root / "files" / "here"
        shutil.copytree(root / "good", folder)
        name = f"bad-{number}-{source.name}"
        (folder / name).write_bytes(mutate(source.read_bytes(), rng))
        line = READERS[kind][int(rng.integers(len(READERS[kind])))]
        words = line.replace("FILE", name).split()
        before = checksums(folder)
        limit = WITH_TENSORFLOW if words[0] in ("weights",) else SECONDS
        outcome = call(words, folder, limit=limit, memory=MEMORY)
        harm = changed(folder, before)
        if keep and (outcome.fault or harm):
            keep.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / name, keep / name)
        yield words, outcome, harm
        shutil.rmtree(root / "files")


def random_lines(root: Path, count: int, rng: np.random.Generator):
    """(words, outcome, harm) of random calls, each in a fresh copy of the folder."""
    commands = all_commands()
    for _ in range(count):
        folder = root / "lines" / "a" / "b"
        shutil.copytree(root / "good", folder)
        special_files(folder)
        words = command_line(commands, rng)
        before = checksums(folder)
        outcome = call(words, folder, limit=WITH_TENSORFLOW, memory=MEMORY)
        yield words, outcome, changed(folder, before)
        for locked in (folder / "locked",):
            if locked.is_dir():
                locked.chmod(0o755)
        shutil.rmtree(root / "lines")


def special_files(folder: Path) -> None:
    """Beside the good files: an empty one, folders, a link, a device, names that are hard to print."""
    (folder / "empty.txt").touch()
    (folder / "folder").mkdir()
    (folder / "locked").mkdir()
    (folder / "locked").chmod(0o555)
    (folder / "link.jpg").symlink_to("photo.jpg")
    for name in (
        b"[red]x.png",
        b":smile:.jpg",
        b"\xff.jpg",
        b"x\ny.jpg",
        "\u2028.jpg".encode(),
    ):
        shutil.copy(folder / "photo.png", os.fsencode(folder) + b"/" + name)
    if os.geteuid() == 0:
        os.mknod(folder / "device", stat.S_IFCHR | 0o666, os.makedev(1, 3))


def checksums(folder: Path) -> dict[Path, str]:
    """Of every file below a folder, and the kind of those that are special."""
    found = {}
    for path in folder.rglob("*"):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode):
            found[path] = sha256_of(path)
        elif not stat.S_ISDIR(mode):
            found[path] = f"special {stat.S_IFMT(mode)}"
    return found


def changed(folder: Path, before: dict[Path, str]) -> str | None:
    """What happened to files that were there before the call."""
    after = checksums(folder)
    for path, digest in before.items():
        if path not in after:
            return f"harm: {path.name!a} is gone"
        if after[path] != digest:
            return f"harm: {path.name!a} was changed"
    return None


if __name__ == "__main__":
    main()
