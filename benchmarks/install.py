"""What an installation costs, ours beside others': its size, its time, and the time to the first faces.

    python benchmarks/install.py [--photo PHOTO] [--rounds 5] [--only NAME ...] [--folder DIR]

Each is installed by pip into a new, empty environment (removed at the end), one after the other; wheels that pip
has in its cache are not fetched again, so run it twice to time the installation and not the network. The size is of
all files in site-packages without pip itself and without compiled caches. Then commands take turns, each a new process
that ends with the faces of one photo; one that fails, such as where weights cannot be fetched, has no time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.peers.environments import last_line, machine, size_of
from benchmarks.peers.listing import REPOSITORY
from retinaface_tf.sources.demo_photo import demo_photo
from retinaface_tf.util.process import to_stderr

OURS = (
    "from retinaface_tf import RetinaFace; print(len(RetinaFace.from_preset().detect({photo!r})))"
)
# By name: what pip installs, and a program that prints how many faces it finds.
INSTALLATIONS = {
    "retinaface-tf": ((str(REPOSITORY),), OURS),
    "retinaface-tf[train]": ((f"{REPOSITORY}[train]",), OURS),
    "retinaface-tf[all]": ((f"{REPOSITORY}[all]",), OURS),
    "uniface": (
        ("uniface", "onnxruntime"),
        "import cv2, uniface; print(len(uniface.RetinaFace().detect(cv2.imread({photo!r}))))",
    ),
    "retina-face": (
        ("retina-face[tensorflow]", "tf-keras"),
        "from retinaface import RetinaFace; print(len(RetinaFace.detect_faces({photo!r})))",
    ),
    "insightface": (
        ("insightface", "onnxruntime"),
        "import cv2; from insightface.app import FaceAnalysis\n"
        "app = FaceAnalysis('buffalo_s', allowed_modules=['detection']); app.prepare(-1)\n"
        "print(len(app.get(cv2.imread({photo!r}))))",
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--photo", type=Path, help="default: a portrait by NASA")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=INSTALLATIONS, default=list(INSTALLATIONS))
    parser.add_argument("--folder", type=Path, help="of the environments; default: a temporary one")
    options = parser.parse_args()
    photo = str((options.photo or demo_photo(to_stderr)).resolve())
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        pythons, costs = {}, {}
        for number, name in enumerate(options.only):
            to_stderr(f"installing {name}")
            home = Path(folder) / str(number)
            pythons[name], costs[name] = (
                home / "bin" / "python",
                install(home, INSTALLATIONS[name][0]),
            )
        programs = {name: INSTALLATIONS[name][1].format(photo=photo) for name in options.only}
        seconds = {name: [] for name in options.only}
        for turn in range(options.rounds + 1):
            for name, program in programs.items():
                took = first_faces(pythons[name], program, Path(folder))
                if turn and took is not None:  # the first round fills caches
                    seconds[name].append(took)
        own = costs[options.only[0]][0]
        print(
            f"{machine()}\n\n| | MB | x | `pip install`, s | process start to faces, s |\n|---|--:|--:|--:|--:|"
        )
        for name, (size, took) in costs.items():
            faces = f"{statistics.median(seconds[name]):.2f}" if seconds[name] else "-"
            print(f"| {name} | {size / 1e6:.0f} | {size / own:.1f} | {took:.0f} | {faces} |")


def install(home: Path, packages: tuple[str, ...]) -> tuple[int, float]:
    """Bytes and seconds of a new environment with these packages."""
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    begin = time.perf_counter()
    command = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", *packages]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"pip install {' '.join(packages)} failed: {last_line(done.stderr)}")
    return size_of(home), time.perf_counter() - begin


def first_faces(python: Path, program: str, folder: Path) -> float | None:
    """Seconds of a process from its start to its end; None where it fails."""
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    begin = time.perf_counter()
    done = subprocess.run([str(python), "-c", program], cwd=folder, env=own, capture_output=True)
    return None if done.returncode else time.perf_counter() - begin


if __name__ == "__main__":
    main()
