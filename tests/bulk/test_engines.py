"""Real networks in real processes and in Ray: killed, resumed, and bit for bit the plain loop."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from retinaface_tf import RetinaFace
from retinaface_tf.bulk import read_results
from retinaface_tf.errors import ImageError
from tests.helpers.bulk_inputs import write_tar
from tests.helpers.waiting import until

pytest.importorskip("pyarrow")
REPOSITORY = Path(__file__).resolve().parent.parent.parent
IMAGES, CORRUPT, CRASHING, SHARD = 60, (7, 31), 23, 5
HALF = IMAGES // 2

# Python runs this in each process; in those that read images, one image kills, and the second half
# of them waits while a file is there.
SITE = """
import os, signal, sys, time
if "--engine" not in sys.argv:
    import importlib.abc, importlib.util

    class Finder(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path, target=None):
            if name != "retinaface_tf.inference.backend":
                return None
            sys.meta_path.remove(self)
            spec = importlib.util.find_spec(name)
            load_module = spec.loader.exec_module

            def exec_module(module):
                load_module(module)
                prepare = module.NetworkBackend.prepare

                def watched(self, source, settings):
                    if {"tensorflow", "keras"} & set(sys.modules):
                        open(os.environ["BULK_TEST_NOTE"], "a").close()
                    if str(source).endswith(os.environ["BULK_TEST_CRASHING"]):
                        os.kill(os.getpid(), signal.SIGKILL)
                    held = str(source)[-6:-4] >= os.environ["BULK_TEST_HALF"]
                    while held and os.path.exists(os.environ["BULK_TEST_HOLD"]):
                        time.sleep(0.01)
                    return prepare(self, source, settings)

                module.NetworkBackend.prepare = watched

            spec.loader.exec_module = exec_module
            return spec

    sys.meta_path.insert(0, Finder())
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory, astronaut, public_weights):
    """Sixty pieces of a portrait, of many sizes; two are damaged."""
    folder = tmp_path_factory.mktemp("bulk") / "photos"
    folder.mkdir()
    for number in range(IMAGES):
        piece = astronaut[: 260 + 2 * number, 120 : 400 - number]
        piece = cv2.resize(piece, None, fx=0.8, fy=0.8 + number / 200)
        content = cv2.imencode(".png", np.ascontiguousarray(piece[..., ::-1]))[1].tobytes()
        if number in CORRUPT:
            content = content[:40]
        (folder / f"{number:02d}.png").write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def plain(photos):
    """What the plain loop finds in each."""
    detector = RetinaFace.from_preset("mobilenet0.25")
    paths = sorted(photos.iterdir())
    return dict(zip([path.name for path in paths], detector.stream(paths)))


class Command:
    """`retinaface-tf detect --engine`, in a process of its own."""

    def __init__(self, photos, tmp_path, engine):
        self.out, self.note, self.hold = (tmp_path / name for name in ("out", "note", "hold"))
        (tmp_path / "site").mkdir()
        (tmp_path / "site" / "sitecustomize.py").write_text(SITE)
        self._arguments = ["detect", str(photos), "--engine", engine, "--out", str(self.out)]
        self._arguments += [
            "--preset",
            "mobilenet0.25",
            "--workers",
            "2",
            "--shard-size",
            str(SHARD),
        ]
        paths = [str(tmp_path / "site"), str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
        self._environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "BULK_TEST_NOTE": str(self.note),
            "BULK_TEST_HOLD": str(self.hold),
            "BULK_TEST_HALF": str(HALF),
            "BULK_TEST_CRASHING": f"{CRASHING:02d}.png",
        }

    def start(self):
        code = "import sys; from retinaface_tf.cli import main; sys.argv[0] = 'rf'; main()"
        return subprocess.Popen(
            [sys.executable, "-c", code, *self._arguments],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def files(self):
        return sorted(self.out.glob("faces-*.parquet"))

    def start_half(self):
        """A run that has done the first half, and goes on once `hold` is gone."""
        self.hold.touch()
        process = self.start()
        until(lambda: len(self.files()) == HALF // SHARD or process.poll() is not None)
        assert process.poll() is None, process.communicate()[1]
        return process


def descendants(root):
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{pid}/task").iterdir():
                children = [int(child) for child in (thread / "children").read_text().split()]
                found += children
                todo += children
    return found


def workers_of(root):
    """Those that hold a model; some of Ray's own agents outlive their driver by a minute."""
    names = (b"process_worker", b"ShardActor")
    return [pid for pid in descendants(root) if any(n in command_line(pid) for n in names)]


def command_line(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def check(command, plain, photos):
    """All images are there once, as the plain loop answers them; the crashing one has a row that says so."""
    results = list(read_results(command.out))
    assert [r.index for r in results] == list(range(IMAGES))
    assert [r.image for r in results] == [str(photos / name) for name in sorted(plain)]
    for result in results:
        name = Path(result.image).name
        if name == f"{CRASHING:02d}.png":
            assert str(result.answer).endswith("every worker that tried crashed.")
        elif isinstance(plain[name], ImageError):
            assert str(result.answer) == str(plain[name])
        else:
            for field in ("boxes", "scores", "landmarks"):
                assert np.array_equal(getattr(result.answer, field), getattr(plain[name], field))
            assert result.answer.image_size == plain[name].image_size
    assert sum(isinstance(r.answer, ImageError) for r in results) == len(CORRUPT) + 1
    assert not command.note.exists(), "a worker of litert imported TensorFlow"
    assert sorted(p.name for p in command.out.iterdir())[0] == "_manifest.json"
    assert len(list(command.out.iterdir())) == 1 + IMAGES // SHARD


def kill_and_resume(command, plain, photos):
    process = command.start_half()
    workers = workers_of(process.pid)
    process.kill()
    process.communicate()
    assert workers
    until(lambda: not any(map(alive, workers)))  # they do not live on without their driver
    command.hold.unlink()
    before = {path.name: path.stat().st_mtime_ns for path in command.files()}
    assert len(before) == HALF // SHARD
    process = command.start()
    out, err = process.communicate(timeout=900)
    assert process.returncode == 1, err
    assert f"{IMAGES - len(CORRUPT) - 1} images, {len(CORRUPT) + 1} unreadable" in out
    assert f"({len(before)} were there already)" in out
    for name, moment in before.items():
        assert (command.out / name).stat().st_mtime_ns == moment
    check(command, plain, photos)
    return err


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_processes_killed_and_resumed(photos, plain, tmp_path):
    err = kill_and_resume(Command(photos, tmp_path, "processes"), plain, photos)
    assert "Traceback" not in err


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_ray_killed_and_resumed(photos, plain, tmp_path):
    pytest.importorskip("ray.data")
    kill_and_resume(Command(photos, tmp_path, "ray"), plain, photos)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_worker_killed_from_outside_loses_nothing(photos, plain, tmp_path):
    command = Command(photos, tmp_path, "processes")
    command._environment["BULK_TEST_CRASHING"] = "none"
    process = command.start_half()
    os.kill(workers_of(process.pid)[0], signal.SIGKILL)
    command.hold.unlink()
    process.communicate(timeout=900)
    assert process.returncode == 1
    results = list(read_results(command.out))
    assert [r.index for r in results] == list(range(IMAGES))
    assert sum(isinstance(r.answer, ImageError) for r in results) == len(CORRUPT)


def test_command_and_engine_agree_on_a_tar(photos, tmp_path):
    """Also from a script without `if __name__ == "__main__"`, given on standard input."""
    write_tar(tmp_path / "a.tar", ["1.png", "2.png", "3.png"])
    script = (
        "from retinaface_tf.bulk import detect_bulk\n"
        f"print(detect_bulk({str(tmp_path / 'a.tar')!r}, {str(tmp_path / 'out')!r}, workers=2,"
        " shard_size=2))"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    result = subprocess.run(
        [sys.executable], input=script, env=environment, capture_output=True, text=True, timeout=900
    )
    assert "images=3" in result.stdout, result.stderr
    assert [r.image for r in read_results(tmp_path / "out")] == ["1.png", "2.png", "3.png"]
    manifest = json.loads((tmp_path / "out" / "_manifest.json").read_text())
    assert manifest["images"] == 3 and manifest["runtime"] == "litert"
