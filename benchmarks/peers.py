"""This project beside the detectors people use today: accuracy, time, memory, size, in one run.

    python benchmarks/peers.py --data ../shared/data [--work runs/peers] [--venvs DIR] [--out docs]
        [--parts install accuracy cold times report] [--peers KEY ...] [--minutes N] [--fresh]

Each detector is installed by pip into a virtual environment of its own (kept in `--venvs`) and
runs there as a process that answers JSON lines (`peers/adapters/answer.py`); only the adapter of our own
detector imports this project. A detector that cannot be installed, or whose weights are not available, is in
the report with the reason.

The same for all: photos are decoded once, by us, into arrays of RGB pixels for every detector (changing them
to its own colour order is not timed); figures come from `retinaface_tf.evaluation`. One
thread: OMP/OpenBLAS/MKL/TF variables of the environment, and SessionOptions (onnxruntime),
tf.config.threading, torch.set_num_threads, cv2.setNumThreads, `threads=1` (ours) in the adapters; while
times are measured every process is also bound to one and the same core, so that none can use another.

`--data` holds `fddb`, `wider`, `wider_416`, `facepoint_crops_80px`, `dlib_faces`, `negatives` and
`weights`; see CONTRIBUTING. Accuracy results are kept and reused when the
command is repeated (`--minutes` stops it in between, and ends rounds early); cold starts and times are each
one run, in which the detectors take turns. `report` writes tables between the marks of OUT/peers.md,
OUT/figures/peers.json and OUT/peers.png.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.peers import scores, table, timing
from benchmarks.peers.answers import answers_file, policies, read_answers, search, wanted
from benchmarks.peers.asking import Asked, PeerError
from benchmarks.peers.environments import install, machine
from benchmarks.peers.images import ImageSet, image_sets, scenes
from benchmarks.peers.listing import ENVIRONMENTS, Peer, peers
from benchmarks.peers.plot import accuracy_latency_plot
from retinaface_tf.util.files import write_whole
from retinaface_tf.util.progress import progress_bar
from retinaface_tf.weights.choose_file import preset_file

PARTS = ("install", "accuracy", "cold", "times", "report")
COMMAND = "python benchmarks/peers.py --data DATA"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/peers"))
    parser.add_argument("--venvs", type=Path, help="default: WORK/venvs")
    parser.add_argument("--out", type=Path, default=Path("docs"))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument(
        "--peers",
        nargs="+",
        metavar="KEY",
        help="only these; one that failed before is tried again",
    )
    parser.add_argument("--minutes", type=float, help="end a part after about this time")
    parser.add_argument("--limit", type=int, help="images of each set, for a quick run")
    parser.add_argument(
        "--sets", nargs="+", metavar="KEY", help="only these, such as wider animals"
    )
    parser.add_argument("--rounds", type=int, default=12, help="of timing")
    parser.add_argument("--cold-rounds", type=int, default=3)
    parser.add_argument("--fresh", action="store_true", help="delete earlier answers")
    options = parser.parse_args()
    Run(options).do()


class Run:
    """One call of the command."""

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.data, self.work = options.data.resolve(), options.work.resolve()
        self.venvs = (options.venvs or self.work / "venvs").resolve()
        self.peers = peers(self.data, self.work)
        known = {peer.key for peer in self.peers}
        for key in options.peers or []:
            if key not in known:
                sys.exit(f"No peer is called {key!r}; there are {', '.join(sorted(known))}.")
        sets = image_sets(self.data, options.limit)
        self.fddb = sets[0]
        self.sets = [s for s in sets if options.sets is None or s.key in options.sets]
        self.installed = {}
        self.errors = self._kept("errors", {})

    def do(self) -> None:
        parts = self.options.parts
        if self.options.fresh:
            shutil.rmtree(self.work / "answers", ignore_errors=True)
            self.errors = {}
        self.install()
        if "accuracy" in parts and not self.accuracy():
            sys.exit("Stopped after --minutes; repeat the command to go on.")
        if "cold" in parts:
            self.cold()
        if "times" in parts:
            self.times()
        if "report" in parts:
            self.report()

    def install(self) -> None:
        """Environments, and the weights that pip brings to two of them."""
        used = {peer.environment for peer in self.chosen()}
        for environment in ENVIRONMENTS:
            if environment.name in used:
                say(f"environment {environment.name}")
                self.installed[environment.name] = install(environment, self.venvs)
        if "error" in self.installed.get("ours", {}):
            sys.exit(f"This project could not be installed: {self.installed['ours']['error']}.")
        # `mobilenet0.25` is fetched and converted here, into the cache that the environments use too;
        # uniface has a name of its own for the file it was converted from.
        weights = preset_file("mobilenet0.25", "keras", notify=say)
        preset_file("mobilenet0.25", "litert", notify=say)
        (self.work / "uniface").mkdir(parents=True, exist_ok=True)
        original = weights.with_name(weights.name.replace(".weights.h5", ".onnx"))
        copy = self.work / "uniface/retinaface_mnet025.onnx"
        if not copy.is_file():
            shutil.copy(original, copy)

    def accuracy(self) -> bool:
        """Answers for every set. False when time was up."""
        time_left = self._clock()

        def go_on() -> bool:
            bar.advance(task)
            return time_left()

        with progress_bar() as bar:
            for peer in self.chosen():
                left = self._left(peer)
                if not left:
                    continue
                total = sum(len(self._missing(peer, images, policy)) for images, policy in left)
                task = bar.add_task(peer.key, total=total)
                try:
                    with self._asked(peer) as asked:
                        for images, policy in left:
                            file = self._answers(peer, images, policy)
                            if not search(asked, images, policy, file, self.work / "pixels", go_on):
                                return False
                    self.errors.pop(peer.key, None)
                except PeerError as error:
                    self.errors[peer.key] = str(error)
                self._keep("errors", self.errors)
        return True

    def cold(self) -> None:
        """Starts of processes, in turns."""
        time_left = self._clock()
        (image,) = scenes(self.data, self.work / "pixels", self.fddb)["one face"]
        core = timing.last_core()
        started = timing.cold_starts(
            lambda peer: self._asked(peer, core),
            self._working(),
            image,
            self.options.cold_rounds,
            time_left,
        )
        self._keep("cold", {**self._kept("cold", {}), **started})

    def times(self) -> None:
        """Latencies and memory, everybody in turns."""
        time_left = self._clock()
        images = scenes(self.data, self.work / "pixels", self.fddb)
        core = timing.last_core()
        with contextlib.ExitStack() as stack:
            asked = {
                peer.key: stack.enter_context(self._asked(peer, core)) for peer in self._working()
            }
            measured = timing.rounds_in_turn(asked, images, self.options.rounds, say, time_left)
        self._keep("times", {**self._kept("times", {}), **measured})

    def report(self) -> None:
        """Figures of everything there is, as JSON, tables and a plot."""
        cold, times = self._kept("cold", {}), self._kept("times", {})
        run = {
            "date": datetime.date.today().isoformat(),
            "machine": machine(),
            "command": COMMAND,
            "subset": len(self.fddb.subset),
            "sets": {
                s.key: {
                    "title": s.title,
                    "images": len(s.photos),
                    "faces": sum(map(len, s.boxes)),
                }
                for s in self.sets
            },
            "rows": [self._row(p, cold.get(p.key, {}), times.get(p.key, {})) for p in self.peers],
        }
        out = self.options.out
        (out / "figures").mkdir(parents=True, exist_ok=True)
        write_whole(out / "figures" / "peers.json", json.dumps(run, indent=1) + "\n")
        page = out / "peers.md"
        text = page.read_text() if page.is_file() else "# Beside other detectors\n"
        write_whole(page, table.put_between_marks(text, table.figures(run)))
        write_whole(out / "peers.png", accuracy_latency_plot(run))
        say(f"wrote {page}, peers.json and peers.png")

    def _row(self, peer: Peer, cold: dict, times: dict) -> dict:
        environment = self.installed.get(peer.environment, {"error": "not installed in this run"})
        row = {"key": peer.key, "name": peer.name, "ours": peer.ours, "weights": peer.weights}
        error = environment.get("error") or self.errors.get(peer.key) or times.get("error")
        if error is None and peer not in self.chosen():
            error = "not measured in this run"
        if error is not None:
            return {**row, "error": short(error, self.work)}
        state = times.get("state", {})
        row["accuracy"] = scores.accuracy(
            lambda images, policy: self._read(peer, images, policy),
            self.sets,
            lambda images: policies(peer, images),
            peer.threshold,
        )
        return {
            **row,
            "times": {name: timing.summary(s) for name, s in times.get("scenes", {}).items()},
            "cold_s": min(cold["seconds"]) if cold.get("seconds") else None,
            "peak_bytes": state.get("peak_bytes"),
            "bytes": environment["bytes"][peer.step - 1],
            "versions": state.get("versions", {}),
        }

    def _clock(self):
        """A function that says whether a part that begins now has some of its minutes left."""
        begin, minutes = time.monotonic(), self.options.minutes
        return lambda: minutes is None or time.monotonic() - begin < 60 * minutes

    def chosen(self) -> list[Peer]:
        """The peers of this call."""
        return [p for p in self.peers if not self.options.peers or p.key in self.options.peers]

    def _working(self) -> list[Peer]:
        """Those that can be timed: installed, and not known to fail."""
        return [
            p
            for p in self.chosen()
            if "error" not in self.installed[p.environment] and p.key not in self.errors
        ]

    def _left(self, peer: Peer) -> list[tuple[ImageSet, str]]:
        """Sets and policies a peer has not answered in whole; one that failed is not tried again."""
        if "error" in self.installed[peer.environment]:
            return []
        if peer.key in self.errors and not self.options.peers:
            return []
        return [
            (images, policy)
            for images in self.sets
            for policy in policies(peer, images)
            if self._missing(peer, images, policy)
        ]

    def _missing(self, peer: Peer, images: ImageSet, policy: str) -> set[int]:
        """Indices a peer has no answer for yet."""
        found = self._read(peer, images, policy).found
        return set(wanted(peer, images, policy)) - set(found)

    def _answers(self, peer: Peer, images: ImageSet, policy: str) -> Path:
        mark = json.dumps(self.installed[peer.environment]["steps"])
        return answers_file(peer, images, policy, self.work / "answers", mark)

    def _read(self, peer: Peer, images: ImageSet, policy: str):
        return read_answers(self._answers(peer, images, policy))

    def _asked(self, peer: Peer, core: int | None = None) -> Asked:
        return Asked(peer, self._python(peer), self.work / "logs" / f"{peer.key}.log", core)

    def _python(self, peer: Peer) -> str:
        return self.installed[peer.environment]["python"]

    def _kept(self, name: str, otherwise):
        file = self.work / f"{name}.json"
        return json.loads(file.read_text()) if file.is_file() else otherwise

    def _keep(self, name: str, value) -> None:
        self.work.mkdir(parents=True, exist_ok=True)
        write_whole(self.work / f"{name}.json", json.dumps(value) + "\n")


def short(error: str, work: Path) -> str:
    """An error for the table, without this machine's folders."""
    error = error.replace(str(work), "WORK").replace("\n", " ")
    return error if len(error) <= 240 else error[:239] + "…"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
