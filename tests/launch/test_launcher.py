"""The launcher with small programs in the workers' place, here and through a stand-in for ssh."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from retinaface_tf.errors import ConfigError, LaunchError
from retinaface_tf.launch.command import WorkerEnvironment
from retinaface_tf.launch.hosts import Worker
from retinaface_tf.launch.launcher import launch

ROOT = Path(__file__).resolve().parents[2]
# Worker 1 fails in its first life; worker 0 would wait for ever. Both note that they were there.
PROGRAM = """
import json, os, pathlib, signal, sys, time
rank = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
folder, how = pathlib.Path(sys.argv[1]), sys.argv[2]
lives = len(list(folder.glob(f"pid-{rank}-*")))
(folder / f"pid-{rank}-{lives}").write_text(str(os.getpid()))
print("life", lives, flush=True)
print("on stderr", file=sys.stderr, flush=True)
if lives:
    sys.exit()
if rank == 1:
    while not (folder / "pid-0-0").exists():
        time.sleep(0.01)
    exec(how)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
def two():
    return [Worker(rank, "localhost", 12345 + rank) for rank in range(2)]


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def assert_all_gone(folder: Path, count: int) -> None:
    pids = [int(path.read_text()) for path in folder.glob("pid-*")]
    assert len(pids) == count
    deadline = time.monotonic() + 3
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(map(alive, pids))


def command(folder: Path, how: str) -> list[str]:
    return [sys.executable, "-c", PROGRAM, str(folder), how]


@pytest.mark.parametrize(
    "how, message",
    [
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            r"Worker 1 \(localhost:12346\) was killed by SIGKILL",
        ),
        ("sys.exit('last words')", r"Worker 1 .* ended with code 1 \(last words\)"),
    ],
)
def test_one_worker_lost_stops_all(tmp_path, two, how, message):
    lines = []
    started = time.monotonic()
    with pytest.raises(LaunchError, match=message):
        launch(two, command(tmp_path, how), WorkerEnvironment(), write=lines.append)
    assert time.monotonic() - started < 60, "the other would have slept ten minutes"
    assert_all_gone(tmp_path, 2)
    assert {"[0] life 0", "[1] life 0", "[0] on stderr", "[1] on stderr"} <= set(lines)


def test_all_are_started_again(tmp_path, two):
    lines = []
    how = "os.kill(os.getpid(), signal.SIGKILL)"
    launch(two, command(tmp_path, how), WorkerEnvironment(), restarts=1, write=lines.append)
    assert {"[0] life 1", "[1] life 1"} <= set(lines)
    assert any("starting again (1 of 1)" in line for line in lines)
    assert_all_gone(tmp_path, 4)


def test_a_refusal_is_not_tried_again(tmp_path, two):
    how = "sys.exit('error: Worker 1 has epochs 3, worker 0 has 2; give both the same.')"
    with pytest.raises(LaunchError, match="refused: Worker 1 has epochs 3"):
        launch(
            two, command(tmp_path, how), WorkerEnvironment(), restarts=5, write=lambda line: None
        )
    assert_all_gone(tmp_path, 2)


def test_a_worker_that_does_not_listen_to_sigterm_is_killed(tmp_path, two):
    how = "sys.exit(3)"
    stubborn = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + PROGRAM
    with pytest.raises(LaunchError, match="code 3"):
        launch(
            two,
            [sys.executable, "-c", stubborn, str(tmp_path), how],
            WorkerEnvironment(),
            write=lambda line: None,
        )
    assert_all_gone(tmp_path, 2)


def test_a_program_that_is_not_there(two, tmp_path):
    with pytest.raises(ConfigError, match="Cannot start worker 0"):
        launch(
            two, ["x"], WorkerEnvironment(python=str(tmp_path / "none")), write=lambda line: None
        )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_launcher_takes_all_with_it(tmp_path, number):
    """Ctrl-C, a scheduler's end, and even a launcher that is killed."""
    (tmp_path / "hosts.txt").write_text("localhost\nlocalhost\n")
    interpreter = tmp_path / "python"
    # Stands for training: as `python -m retinaface_tf train ...`, runs the program above.
    interpreter.write_text(
        f'#!/bin/sh\nif [ "$2" = retinaface_tf ]; then exec "{sys.executable}" -c "$PROGRAM" '
        f'"{tmp_path}" "time.sleep(600)"; fi\nexec "{sys.executable}" "$@"\n'
    )
    interpreter.chmod(0o755)
    options = ["--hosts", str(tmp_path / "hosts.txt"), "--python", str(interpreter)]
    process = subprocess.Popen(
        [sys.executable, "-m", "retinaface_tf", "launch", *options],
        env={**os.environ, "PROGRAM": PROGRAM},
        stderr=subprocess.DEVNULL,
        # Who is started in the background of a script ignores Ctrl-C, and so would what it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while process.poll() is None:
        if len([path for path in tmp_path.glob("pid-*") if path.read_text()]) == 2:
            break
        time.sleep(0.02)
    process.send_signal(number)
    process.wait(timeout=20)
    assert process.returncode == (-number if number == signal.SIGKILL else 130)
    assert_all_gone(tmp_path, 2)


@pytest.fixture
def ssh(tmp_path):
    """Notes how it was called and runs the line here; host `away` does not answer."""
    path = tmp_path / "ssh"
    path.write_text(
        "#!/bin/sh\n"
        f'echo "$#:$1:$2" >> "{tmp_path}/calls"\n'
        'if [ "$2" = away ]; then echo "ssh: connect to host away: No route to host" >&2; '
        "exit 255; fi\n"
        'exec sh -c "$3"\n'
    )
    path.chmod(0o755)
    return (str(path), "-q")


def test_other_hosts_are_reached_by_ssh(tmp_path, ssh):
    workers = [Worker(0, "alpha", 1), Worker(1, "beta", 1)]
    lines = []
    environment = WorkerEnvironment(
        ssh=ssh, folder=str(tmp_path), variables={"PYTHONPATH": str(ROOT)}
    )
    how = "os.kill(os.getpid(), signal.SIGKILL)"
    launch(workers, command(tmp_path, how), environment, restarts=1, write=lines.append)
    assert (
        sorted((tmp_path / "calls").read_text().splitlines())
        == ["3:-q:alpha"] * 2 + ["3:-q:beta"] * 2
    )
    assert {"[0] life 1", "[1] life 1"} <= set(lines)
    # Also those of the first life, which no signal from here would have reached through ssh.
    assert_all_gone(tmp_path, 4)


def test_a_host_that_does_not_answer(tmp_path, ssh):
    workers = [Worker(0, "alpha", 1), Worker(1, "away", 1)]
    environment = WorkerEnvironment(ssh=ssh, variables={"PYTHONPATH": str(ROOT)})
    with pytest.raises(
        LaunchError, match=r"Worker 1 \(away:1\) could not be reached .*No route to host.*ssh away"
    ):
        launch(workers, command(tmp_path, "pass"), environment, write=lambda line: None)


def test_a_line_of_a_worker_is_shown_when_it_is_written(tmp_path, two):
    """Not when the worker ends."""
    seen = threading.Event()
    program = (
        "import pathlib, sys, time\nprint('here')\n"
        f"while not pathlib.Path({str(tmp_path / 'go')!r}).exists():\n    time.sleep(0.01)\n"
    )

    def write(line):
        if line.endswith("here"):
            (tmp_path / "go").touch()
            seen.set()

    launch(two, [sys.executable, "-c", program], WorkerEnvironment(), write=write)
    assert seen.is_set()
