"""`detect` ended at random moments, by Ctrl-C and by SIGKILL, and gone on with."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from retinaface_tf.images.save import save_image
from retinaface_tf.util.process import child_environment
from tests.helpers.waiting import PATIENCE, until

PHOTOS, FRAMES, MOMENTS = 200, 40, 20
# A test runner may have been started with SIGINT ignored.
CODE = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    "from retinaface_tf.cli import main; main()"
)


def start(folder: Path, *options: str) -> subprocess.Popen:
    words = ["detect", "photos", "clip.avi", "--json", "o.jsonl", "--crops", "c", *options]
    return subprocess.Popen(
        [sys.executable, "-c", CODE, *words],
        cwd=folder,
        env=child_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_lines(folder: Path, process: subprocess.Popen, count: int) -> None:
    """Until a run has written so many lines, or ends."""
    path = folder / "o.jsonl"
    until(
        lambda: (
            (path.exists() and path.read_bytes().count(b"\n") >= count)
            or process.poll() is not None
        )
    )


def results(folder: Path) -> dict[str, bytes]:
    """Every output but the drawn video, whose encoder writes the time of day into it."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in paths if path.suffix != ".mp4"
    }


def make_inputs(folder: Path, astronaut: np.ndarray) -> None:
    face = cv2.resize(astronaut[:256, 96:352], (128, 128), interpolation=cv2.INTER_AREA)
    for number in range(PHOTOS):
        save_image(folder / "photos" / f"{number:03d}.png", np.roll(face, number % 7, axis=1))
    writer = cv2.VideoWriter(
        str(folder / "clip.avi"), cv2.VideoWriter_fourcc(*"FFV1"), 10, (128, 128)
    )
    for number in range(FRAMES):
        writer.write(np.roll(face, number, axis=0)[..., ::-1])
    writer.release()


@pytest.mark.slow
@pytest.mark.parametrize("options", [("--draw", "d"), ()], ids=["drawn", "not drawn"])
def test_a_run_ended_at_random_moments_ends_as_if_it_had_not_been(tmp_path, astronaut, options):
    make_inputs(tmp_path, astronaut)
    undisturbed = start(tmp_path, *options)
    assert undisturbed.wait(PATIENCE) == 0, undisturbed.stderr.read()
    whole, inputs = results(tmp_path), results(tmp_path / "photos")
    assert (
        whole["o.jsonl"].count(b"\n") == PHOTOS + FRAMES and whole["o.jsonl"].count(b'"box"') > 200
    )

    rng = np.random.default_rng(MOMENTS + len(options))
    for moment in range(MOMENTS // 2):
        for place in ("o.jsonl", "c", "d"):
            path = tmp_path / place
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        kind = (signal.SIGKILL, signal.SIGINT)[moment % 2]
        process = start(tmp_path, *options)
        wait_for_lines(tmp_path, process, rng.integers(PHOTOS + FRAMES))
        time.sleep(rng.uniform(0, 0.05))  # between two lines
        process.send_signal(kind)
        code, said = process.wait(PATIENCE), process.stderr.read()
        if kind == signal.SIGINT and code != 0:
            assert code == 130 and said.endswith("stopped; what was finished is kept.\n"), said
        lines = (tmp_path / "o.jsonl").read_bytes() if (tmp_path / "o.jsonl").exists() else b""
        assert whole["o.jsonl"].startswith(lines)
        # Stopped once more on the way, then to the end.
        again = start(tmp_path, *options, "--resume")
        wait_for_lines(tmp_path, again, rng.integers(lines.count(b"\n"), PHOTOS + FRAMES + 1))
        again.kill()
        again.wait(PATIENCE)
        last = start(tmp_path, *options, "--resume")
        assert last.wait(PATIENCE) == 0, last.stderr.read()
        after = {name: content for name, content in results(tmp_path).items() if "/." not in name}
        assert after.keys() == whole.keys() and after == whole
        assert results(tmp_path / "photos") == inputs
