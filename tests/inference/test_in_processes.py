"""Images searched in processes of their own."""

import json
import signal
import subprocess

import cv2
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from retinaface_tf import RetinaFace, cli
from retinaface_tf.errors import ImageError, WorkerError
from retinaface_tf.images.read import NamedBytes
from retinaface_tf.inference import in_processes
from retinaface_tf.inference.in_processes import gains_from_processes, stream_in_processes

SIDES = (64, 96, 128, 80)


@pytest.fixture(scope="module")
def detector():
    return RetinaFace.from_preset("lite", threads=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, astronaut):
    """Faces of several sizes, and a file that is no image."""
    folder = tmp_path_factory.mktemp("photos")
    face = astronaut[:256, 96:352]
    for number in range(20):
        side = SIDES[number % len(SIDES)]
        image = cv2.resize(np.roll(face, number, axis=1), (side, side + 32))
        Image.fromarray(image).save(folder / f"{number:02d}.png")
    (folder / "07.png").write_text("no image")
    return folder


@pytest.fixture
def started(monkeypatch):
    """The processes that are started, given few images at once."""
    started, popen = [], subprocess.Popen
    monkeypatch.setattr(in_processes, "PART", 3)
    monkeypatch.setattr(
        in_processes.subprocess,
        "Popen",
        lambda *a, **k: started.append(popen(*a, **k)) or started[-1],
    )
    return started


def test_answers_are_those_of_one_process_in_order(
    detector, folder, started, tmp_path, monkeypatch
):
    (tmp_path / "queue.py").write_text("raise SystemExit('not the standard library')")
    monkeypatch.chdir(tmp_path)
    paths = sorted(folder.iterdir())
    photo = NamedBytes(paths[0].read_bytes(), "standard input")
    wanted = list(detector.stream([*paths, photo]))
    assert sum(len(one) for one in wanted if not isinstance(one, ImageError)) > 10
    with stream_in_processes(detector, [*paths, photo]) as answers:
        for answer, want in zip(answers, wanted, strict=True):
            if isinstance(want, ImageError):
                assert str(answer) == str(want) and "07.png" in str(want)
            else:
                np.testing.assert_array_equal(answer.boxes, want.boxes)
                np.testing.assert_array_equal(answer.landmarks, want.landmarks)
    assert len(started) == 2


def test_processes_end_with_the_block_and_a_killed_one_is_said(detector, folder, started):
    with (
        pytest.raises(WorkerError, match=r"was killed.*--threads 1"),
        stream_in_processes(detector, sorted(folder.iterdir())) as answers,
    ):
        next(answers)
        started[0].send_signal(signal.SIGKILL)
        list(answers)
    assert len(started) == 2 and all(process.poll() is not None for process in started)


def test_detect_searches_many_images_in_processes(folder, started, monkeypatch, tmp_path):
    found = []
    for number, least in enumerate((1000, 20)):
        monkeypatch.setattr(in_processes, "LEAST_IMAGES", least)
        out = tmp_path / f"{number}.jsonl"
        cli.with_commands()
        result = CliRunner().invoke(
            cli.app, ["detect", str(folder), "--json", str(out), "--threads", "2"]
        )
        assert result.exit_code == 1 and "07.png" in result.stderr  # it cannot be read
        assert len(started) == 2 * number
        found.append([json.loads(line) for line in out.read_text().splitlines()])
    assert found[0] == found[1] and len(found[0]) == 20


def test_parts_are_all_images_and_smaller_at_the_end():
    for count in (0, 1, 17, 1000):
        parts = list(in_processes._parts(range(count), 4))
        assert [image for part in parts for image in part] == list(range(count))
    assert len(parts[0]) == 125 and len(parts[-1]) <= len(parts[-2]) == 16


def test_few_images_and_one_core_gain_nothing(detector):
    assert gains_from_processes(detector, 800)
    assert not gains_from_processes(detector, 799)
    assert not gains_from_processes(RetinaFace.from_preset("lite", threads=1), 800)
