"""The hosts list, TF_CONFIG and the lines that shells get."""

import json
import os
import shlex
import subprocess
import sys

import pytest

from retinaface_tf.cli.train import train
from retinaface_tf.errors import ConfigError
from retinaface_tf.launch.command import (
    WorkerEnvironment,
    parse_environment,
    training_command,
)
from retinaface_tf.launch.hosts import read_hosts, tf_config


def hosts(tmp_path, text: str, **options):
    path = tmp_path / "hosts.txt"
    path.write_text(text)
    return read_hosts(path, **options)


def test_a_list_with_comments_ports_and_a_host_twice(tmp_path):
    workers = hosts(
        tmp_path, "# two machines\n\nalpha  # the chief\nbeta:2345\nalpha\n[fe80::1]:7\n"
    )
    assert [w.address for w in workers] == [
        "alpha:12345",
        "beta:2345",
        "alpha:12346",
        "[fe80::1]:7",
    ]
    assert [w.rank for w in workers] == [0, 1, 2, 3]
    assert not any(w.local for w in workers)
    # A port that a later line names is left for it.
    workers = hosts(tmp_path, "alpha\nalpha:50\n", port=50)
    assert [w.port for w in workers] == [51, 50]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.5.5.5", "[::1]"])
def test_loopback_hosts_are_started_here(tmp_path, host):
    (worker,) = hosts(tmp_path, host)
    assert worker.loopback and worker.local


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "names no host"),
        ("# nobody\n", "names no host"),
        ("alpha slots=4\n", r"line 1: 'alpha slots=4' is not host or host:port"),
        ("ok\n-oProxyCommand=x\n", "line 2"),
        ("alpha;reboot\n", "line 1"),
        ("alpha:0\n", "port 0 must be from 1"),
        ("alpha:70000\n", "port 70000 must be from 1"),
        ("alpha:1\nalpha:1\n", "lists alpha:1 2 times"),
        ("localhost\nalpha\n", "lists localhost beside other hosts"),
    ],
)
def test_lists_that_cannot_be_are_refused_in_a_sentence(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        hosts(tmp_path, text)


def test_a_list_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="Cannot read the hosts list"):
        read_hosts(tmp_path / "none.txt")


def test_tf_config_is_what_tensorflow_documents(tmp_path):
    workers = hosts(tmp_path, "alpha\nbeta:99\n")
    assert json.loads(tf_config(workers, 1)) == {
        "cluster": {"worker": ["alpha:12345", "beta:99"]},
        "task": {"type": "worker", "index": 1},
    }
    for rank in (-1, 2):
        with pytest.raises(ConfigError, match=f"Rank {rank} .* 0 to 1"):
            tf_config(workers, rank)


def test_nothing_reaches_a_shell_unquoted(tmp_path):
    """A real shell gets the line and has to hand on every argument and variable as it was."""
    workers = hosts(tmp_path, "alpha\nbeta\n")
    folder = tmp_path / "it's $(touch bad); a `folder`"
    folder.mkdir()
    nasty = ["--out", "a b", "$(touch bad)", "`touch bad`", "; touch bad", "'\"\\", "*", "--set=x"]
    show = "import json, os, sys; print(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]))"
    environment = WorkerEnvironment(folder=str(folder), variables={"WORD": "$HOME 'and' more"})
    line = environment.shell_line(workers, 1, [sys.executable, "-c", show, *nasty])
    output = subprocess.run(["sh", "-c", line], capture_output=True, check=True, text=True).stdout
    arguments, where, variables = json.loads(output)
    assert arguments == nasty
    assert where == str(folder)
    assert variables["WORD"] == "$HOME 'and' more"
    assert variables["TF_CONFIG"] == tf_config(workers, 1)
    assert not list(tmp_path.rglob("bad"))


def test_ssh_gets_one_host_and_one_line(tmp_path):
    workers = hosts(tmp_path, "alpha\n[fe80::1]\n")
    environment = WorkerEnvironment(ssh=("ssh", "-p", "22"), python="/opt/py", folder="/srv/run")
    command = environment.start_command(workers, 1, training_command("/opt/py", ["--out", "x y"]))
    assert command[:4] == ["ssh", "-p", "22", "fe80::1"]
    assert len(command) == 5
    words = shlex.split(command[4])
    assert words[:4] == ["cd", "/srv/run", "&&", "exec"]
    supervised = ["/opt/py", "-m", "retinaface_tf.launch.supervise"]
    assert words[-8:] == [
        *supervised[1:],
        "/opt/py",
        "-m",
        "retinaface_tf",
        "train",
        "--out",
        "x y",
    ]


def test_environment_entries():
    assert parse_environment(["A=1", "B=x=y", "C="]) == {"A": "1", "B": "x=y", "C": ""}
    for entry in ("A", "=1", "A B=1", "A;B=1"):
        with pytest.raises(ConfigError, match="NAME=VALUE"):
            parse_environment([entry])
    with pytest.raises(ConfigError, match="made from the hosts list"):
        parse_environment(["TF_CONFIG={}"])


def test_restart_is_not_for_several_workers():
    with pytest.raises(ConfigError, match="--restart cannot be used"):
        training_command("python", ["--out", "x", "--restart"])


def test_restart_is_not_for_workers_started_by_hand(tmp_path, monkeypatch):
    """It would remove the folder under the others' hands."""
    workers = hosts(tmp_path, "alpha\nbeta\n")
    monkeypatch.setenv("TF_CONFIG", tf_config(workers, 0))
    with pytest.raises(ConfigError, match=r"--restart cannot be used .* workers \(TF_CONFIG\)"):
        train(out=tmp_path, restart=True)
    assert (tmp_path / "hosts.txt").exists()


def run_command(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "retinaface_tf", "launch", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        **options,
    )


def test_print_gives_lines_to_paste(tmp_path):
    (tmp_path / "hosts.txt").write_text("alpha\nbeta\n")
    done = run_command("--hosts", tmp_path / "hosts.txt", "--print", "--", "--out", "a b")
    assert done.returncode == 0, done.stderr
    heads, lines = done.stdout.splitlines()[::2], done.stdout.splitlines()[1::2]
    assert heads == ["# worker 0 (alpha:12345)", "# worker 1 (beta:12345)"]
    for line in lines:
        assert shlex.split(line)[-2:] == ["--out", "a b"]


def test_rank_becomes_that_worker(tmp_path):
    """The interpreter is a stand-in that shows what it was given."""
    (tmp_path / "hosts.txt").write_text("alpha\nbeta\n")
    stand_in = tmp_path / "python"
    stand_in.write_text('#!/bin/sh\necho "$TF_CONFIG"\nprintf "%s\\n" "$@"\n')
    stand_in.chmod(0o755)
    hosts_file = ("--hosts", tmp_path / "hosts.txt", "--python", stand_in)
    done = run_command(*hosts_file, "--rank", 1, "--", "--out", "a b", env={**os.environ})
    config, *arguments = done.stdout.splitlines()
    assert json.loads(config)["task"] == {"type": "worker", "index": 1}
    assert arguments == ["-m", "retinaface_tf", "train", "--out", "a b"]
    done = run_command(*hosts_file, "--rank", 7)
    assert done.returncode == 1 and done.stderr.startswith("error: Rank 7 is not in the hosts list")
    for words in (("--folder", tmp_path / "none"), ("--python", "no-such-python")):
        done = run_command(*hosts_file, *words, "--rank", 1)
        assert done.returncode == 1 and done.stderr.startswith("error: Cannot start ")
