"""What a person sees of a command that goes wrong, in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from retinaface_tf.util.process import child_environment
from tests.helpers.waiting import PATIENCE, until

# A test runner may have been started with SIGINT ignored.
HANDLED = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"


def run(*words, code="from retinaface_tf.cli import main; main()", start=(), **options):
    return subprocess.run(
        [*start, sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        errors="surrogateescape",
        env=child_environment(**options.pop("environment", {})),
        **options,
    )


BROKEN = """
from retinaface_tf import cli
from retinaface_tf.cli import presets
def fail():
    {body}
presets.presets = fail
cli.main()
"""


@pytest.mark.parametrize(
    "body, sentence",
    [
        (
            "raise KeyError('x')",
            "KeyError: 'x'. This was not foreseen: run the command with --debug",
        ),
        ("raise MemoryError", "There is not enough memory"),
        (
            "raise ValueError('{op} /tmp/x/part-0; No space left on device [Op:Save]')",
            "No space left on device for /tmp/x/part-0; free some space.",
        ),
        ("open('/nowhere/x')", "/nowhere/x: No such file or directory"),
        ("import errno; raise OSError(errno.ENOSPC, 'x', 'full.png')", "full.png: No space left"),
    ],
)
def test_what_was_not_foreseen_is_one_sentence(body, sentence):
    code = BROKEN.format(body=body)
    done = run("presets", code=code)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {sentence}") and done.stderr.count("\n") == 1
    debug = run("presets", "--debug", code=code)
    assert debug.returncode == 1 and "Traceback (most recent call last)" in debug.stderr


def test_notes_from_c_go_nowhere_and_ours_stay():
    code = BROKEN.format(body="os.write(2, b'from C'); print('ours', file=sys.stderr)")
    code = "import os, sys\n" + code
    assert run("presets", code=code).stderr == "ours\n"
    assert run("presets", "--debug", code=code).stderr == "from Cours\n"


def test_a_crash_says_where_it_was():
    done = run("presets", code=BROKEN.format(body="import os, signal; os.kill(os.getpid(), 11)"))
    assert done.returncode == -signal.SIGSEGV and "Segmentation fault" in done.stderr


def test_a_name_that_the_terminal_cannot_print_is_escaped(tmp_path):
    done = run(
        "detect", os.fsdecode(b"\xff\xfe.jpg"), "né.jpg", environment={"PYTHONIOENCODING": "ascii"}
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "there is no such file" in done.stderr and "\\xe9" in done.stderr


def test_a_reader_that_leaves_ends_the_command_quietly():
    code = BROKEN.format(body="[print('line ' * 100) for _ in range(10_000)]")
    process = subprocess.Popen(
        [sys.executable, "-c", code, "presets"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=child_environment(),
    )
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(PATIENCE) == 1


def test_ctrl_c_that_comes_while_memory_is_freed_still_ends_the_command():
    body = "X(); [time.sleep(0.1) for _ in range(6000)]"
    code = (
        "import time\nclass X:\n def __del__(self): raise KeyboardInterrupt\n" + HANDLED
    ) + BROKEN.format(body=body)
    done = run("presets", code=code)
    assert (done.returncode, done.stderr) == (130, "stopped; what was finished is kept.\n")


def test_ctrl_c_ends_processes_that_draw_without_a_word(tmp_path):
    words = ("data", "synth", "s", "--count", "90000", "--size", "64", "--quiet")
    code = HANDLED + "from retinaface_tf.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=child_environment(),
    )
    until(lambda: list(tmp_path.glob("s/images/*0.jpg")))
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: all processes get it
    assert process.communicate(timeout=PATIENCE)[1] == "stopped; what was finished is kept.\n"
    assert process.returncode == 130


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_closed_stream_leads_nowhere(number):
    """As cron and daemons start programs."""
    code = BROKEN.format(body="print('out'); print(sys.stdin.read() + 'err', file=sys.stderr)")
    start = ("sh", "-c", f'exec "$@" {number}<&-', "sh")
    done = run("presets", code=f"import sys\n{code}", start=start, input="")
    assert done.returncode == 0
    assert (done.stdout, done.stderr) == ("out\n" * (number != 1), "err\n" * (number != 2))


@pytest.mark.parametrize("words", [("",), ("--draw=",), ("--draw", "")])
def test_an_empty_argument_is_not_the_current_folder(words, tmp_path):
    done = run("detect", "a.jpg", *words, cwd=tmp_path)
    assert done.returncode == 1 and "One of the arguments is empty" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_one_sentence():
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    for target, name in (("/dev/full", "/dev/full"), ("-", "standard output")):
        with Path("/dev/full").open("w") as full:
            code = (
                "import sys; from retinaface_tf.cli.json_output import JsonLines\n"
                "from retinaface_tf.cli.terminal import sentences\n"
                f"with sentences(False), JsonLines({target!r}) as lines: lines.write({{}})"
            )
            done = subprocess.run(
                [sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True
            )
        assert (done.returncode, done.stderr) == (
            1,
            f"error: Cannot write {name}: no space left on device.\n",
        )


def test_ctrl_c_is_one_sentence():
    code = BROKEN.format(body="import time; print('ready', flush=True); time.sleep(600)")
    process = subprocess.Popen(
        [sys.executable, "-c", HANDLED + code, "presets"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=child_environment(),
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE)
    assert (process.returncode, said) == (130, "stopped; what was finished is kept.\n")


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/stderr", "/dev/fd/1", "/dev/fd/2"])
def test_an_output_to_an_open_stream_is_added_to_what_is_there(tmp_path, name):
    """Also where the stream leads to a file, which opening the name again would begin anew."""
    if not Path("/dev/fd").exists():
        pytest.skip("there is no /dev/fd")
    code = (
        "import sys; from retinaface_tf.cli.json_output import JsonLines\n"
        "from retinaface_tf.cli.output import write_text\n"
        "from retinaface_tf.cli.terminal import set_up_streams\n"
        "from retinaface_tf.util.files import require_free\n"
        f"set_up_streams(False); name = {name!r}\n"
        "print('before', file=sys.stdout, flush=True); print('before', file=sys.stderr)\n"
        "with JsonLines(name) as lines: lines.write({})\n"
        "require_free(name); write_text(name, 'text\\n')\n"
        "print('after', file=sys.stdout, flush=True); print('after', file=sys.stderr)\n"
    )
    with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
        subprocess.run([sys.executable, "-c", code], stdout=out, stderr=err, check=True)
    written = "err" if name.endswith(("err", "2")) else "out"
    assert (tmp_path / written).read_text() == "before\n{}\ntext\nafter\n"
    assert len(list(tmp_path.iterdir())) == 2
