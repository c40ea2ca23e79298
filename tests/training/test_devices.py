"""Runs that have to agree: on one device, two devices, two workers; whole, and killed half-way.

Each is a process of its own, since TensorFlow fixes its devices when it starts. They compute in
double precision, where different orders of summation differ by 1e-12 and any real difference
(a loss normalised by replica, gradients added twice, batch norm unsynchronised) by much more.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).with_name("small_run.py")
DOUBLE = {"precision": "float64"}


def start(folder: Path, changes: dict, name: str = "losses", **environment) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(folder), json.dumps(changes), name],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen) -> None:
    _, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors[-3000:]


def losses(folder: Path, name: str = "losses") -> dict:
    return json.loads((folder / f"{name}.json").read_text())


def variables(folder: Path) -> dict[str, np.ndarray]:
    newest = sorted((folder / "checkpoints").glob("step-*.npz"))[-1]
    with np.load(newest) as file:
        return {name: file[name] for name in file.files if name != "state"}


def assert_same_run(a: Path, b: Path, tolerance: float) -> None:
    first, second = losses(a), losses(b)
    assert first.keys() == second.keys() and len(first) == 6
    for step in first:
        for term in first[step]:
            np.testing.assert_allclose(
                first[step][term], second[step][term], rtol=0, atol=tolerance
            )
    first, second = variables(a), variables(b)
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_allclose(
            first[name], second[name], rtol=tolerance, atol=tolerance, err_msg=name
        )


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one") / "run"
    finish(start(folder, DOUBLE))
    return folder


@pytest.mark.slow
def test_two_devices_equal_one(one_device, tmp_path):
    """Gradients are clipped here too, which has to happen to their sum."""
    finish(start(tmp_path / "run", {**DOUBLE, "devices": 2}))
    assert_same_run(one_device, tmp_path / "run", 1e-5)


@pytest.mark.slow
def test_two_workers_equal_one(one_device, tmp_path):
    ports = []
    sockets = [socket.socket() for _ in range(2)]
    for opened in sockets:
        opened.bind(("127.0.0.1", 0))
        ports.append(opened.getsockname()[1])
    for opened in sockets:
        opened.close()
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    workers = [
        start(
            tmp_path / "run",
            DOUBLE,
            f"worker{index}" if index else "losses",
            TF_CONFIG=json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}}),
        )
        for index in range(2)
    ]
    for worker in workers:
        finish(worker)
    assert_same_run(one_device, tmp_path / "run", 1e-5)
    # Both saw the loss of the global batch.
    assert losses(tmp_path / "run") == losses(tmp_path / "run", "worker1")


@pytest.mark.slow
def test_a_killed_run_goes_on_exactly(one_device, tmp_path):
    folder = tmp_path / "run"
    # Slow enough to be met in the middle of the first epoch, of three steps.
    process = start(folder, DOUBLE)
    while process.poll() is None and not list(
        (folder / "checkpoints").glob("step-00000000[12].npz")
    ):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (folder / "losses.json").exists()
    finish(start(folder, DOUBLE))
    assert 1 <= 6 - len(losses(folder)) <= 2, "it has to go on within the first epoch"
    first, second = variables(one_device), variables(folder)
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
