"""Runs that have to agree: on one device, two devices, two workers; whole, and killed half-way.

Each is a process of its own, since TensorFlow fixes its devices when it starts. They compute in
double precision, where different orders of summation differ by 1e-12 and any real difference
(a loss normalised by replica, gradients added twice, batch norm unsynchronised) by much more.
"""

import contextlib
import json
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from retinaface_tf.util.process import child_environment
from tests.helpers.meshed_faces import write_mesh_labels
from tests.helpers.small_run import VALUES

ROOT = Path(__file__).resolve().parents[2]
DOUBLE = {"precision": "float64", "optimizer": {"clip_norm": 5.0, "ema": 0.75}}


def start(
    folder: Path, changes: dict, name: str = "losses", before: tuple[str, ...] = (), **environment
) -> subprocess.Popen:
    words = [*before, "tests.helpers.small_run", str(folder), json.dumps(changes), name]
    return subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        env=child_environment(CUDA_VISIBLE_DEVICES="-1", **environment),
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
def test_two_devices_equal_one_where_faces_are_matched_dynamically(tmp_path):
    """Batches hold the faces then, which Keras adds up over the devices once."""
    changes = {**DOUBLE, "match": {"dynamic": True}, "epochs": 1}
    for devices in (1, 2):
        finish(start(tmp_path / str(devices), {**changes, "devices": devices}))
    assert losses(tmp_path / "1")["1"] == pytest.approx(losses(tmp_path / "2")["1"], abs=1e-6)


@pytest.mark.slow
def test_two_devices_equal_one_with_the_dense_terms(tmp_path):
    """Sums over gathered positives, of which the devices have different numbers.

    Gradients of drawn faces are of single precision, and a fresh network amplifies their rounding
    from step to step. So the losses are compared at once, and after one update, where rounding is
    worth 1e-4 of a loss of 7.9 and a gradient of another size more than 0.1.
    """
    labels = write_mesh_labels(tmp_path, 12)
    dense = {"rank": 12, "reduced": 6}
    changes = {
        **DOUBLE,
        "network": {**VALUES["network"], "dense": dense},
        "data": {**VALUES["data"], "kind": "mesh-labels", "root": str(labels)},
        "loss": {
            "mesh_weight": 0.01,
            "mesh_positives": 3,
            "pixel_weight": 0.01,
            "pixel_positives": 1,
            "pixel_size": 16,
        },
    }
    for devices in (1, 2):
        finish(start(tmp_path / str(devices), {**changes, "devices": devices}))
    first, second = losses(tmp_path / "1"), losses(tmp_path / "2")
    assert all(terms["mesh"] > 0 and terms["pixel"] > 0 for terms in first.values())
    for step, tolerance in (("1", 1e-9), ("2", 1e-3)):
        assert first[step] == pytest.approx(second[step], rel=0, abs=tolerance)


def free_ports(count: int) -> list[int]:
    """Below those that the system gives to others before the workers listen."""
    ports = []
    while len(ports) < count:
        port = random.SystemRandom().randrange(10_000, 32_000)
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("127.0.0.1", port))
            ports.append(port)
    return ports


def start_two(folder: Path, *changes: dict) -> list[subprocess.Popen]:
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(2)]}
    return [
        start(
            folder,
            changes[index],
            f"worker{index}" if index else "losses",
            TF_CONFIG=json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}}),
        )
        for index in range(2)
    ]


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers") / "run"
    for worker in start_two(folder, DOUBLE, DOUBLE):
        finish(worker)
    return folder


@pytest.mark.slow
def test_two_workers_equal_one(one_device, two_workers):
    assert_same_run(one_device, two_workers, 1e-5)
    # Both saw the loss of the global batch.
    assert losses(two_workers) == losses(two_workers, "worker1")


@pytest.mark.slow
def test_workers_that_differ_do_not_start(tmp_path):
    """Both say the same sentence, before any data is read."""
    workers = start_two(tmp_path / "run", DOUBLE, {**DOUBLE, "seed": 3})
    for worker in workers:
        _, errors = worker.communicate(timeout=900)
        assert worker.returncode == 1
        assert (
            "ConfigError: Worker 1 has seed 3, worker 0 has 0; give every worker the same options."
            in errors
        )
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.slow
def test_a_node_of_ray_killed_in_the_middle_changes_nothing(two_workers, tmp_path):
    """Ray starts the workers again on the node that takes its place; the end is that of a whole run."""
    pytest.importorskip("ray.train")
    folder = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-m", "tests.helpers.ray_run", str(folder), json.dumps(DOUBLE)],
        cwd=ROOT,
        env=child_environment(CUDA_VISIBLE_DEVICES="-1"),
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "killed a node" in done.stdout and "6 steps" in done.stdout
    assert "going on from step " in done.stdout + done.stderr
    whole, restarted = variables(two_workers), variables(folder)
    assert whole.keys() == restarted.keys()
    for name in whole:
        np.testing.assert_array_equal(whole[name], restarted[name], err_msg=name)


@pytest.mark.slow
def test_tasks_of_a_slurm_step_are_workers(two_workers, tmp_path):
    """Two processes with the variables that srun gives; TensorFlow's resolver makes the cluster of them."""
    config, folder = tmp_path / "config.json", tmp_path / "run"
    config.write_text(json.dumps({**VALUES, **DOUBLE}))
    step = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "2"}
    command = ["train", "--engine", "slurm", "--config", str(config), "--out", str(folder)]
    tasks = [
        subprocess.Popen(
            [sys.executable, "-m", "retinaface_tf", *command],
            env=child_environment(
                CUDA_VISIBLE_DEVICES="-1",
                SLURM_STEP_NODELIST="localhost",
                SLURM_PROCID=str(number),
                **step,
            ),
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        for number in range(2)
    ]
    for task in tasks:
        finish(task)
    whole, found = variables(two_workers), variables(folder)
    for name in whole:
        np.testing.assert_array_equal(whole[name], found[name], err_msg=name)


@pytest.mark.slow
def test_a_killed_run_goes_on_exactly(one_device, tmp_path):
    folder = tmp_path / "run"
    # In the middle of the first epoch, of three steps.
    process = start(folder, DOUBLE, before=("tests.helpers.killed_after", "2"))
    _, said = process.communicate()
    assert process.returncode == -signal.SIGKILL, said
    assert not (folder / "losses.json").exists()
    finish(start(folder, DOUBLE))
    assert [*losses(folder)] == ["3", "4", "5", "6"]
    first, second = variables(one_device), variables(folder)
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
