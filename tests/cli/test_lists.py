"""The lists of networks and weights on a terminal: whole words in its width."""

import os
import re
import subprocess
import sys

import pytest

from retinaface_tf.presets import get_preset, list_presets

pty = pytest.importorskip("pty")


def on_a_terminal(columns: int, *arguments: str) -> list[str]:
    """The lines that a command prints on a terminal of that width, without colours."""
    import fcntl
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    command = [sys.executable, "-m", "retinaface_tf", *arguments]
    with subprocess.Popen(
        command, stdout=theirs, stdin=theirs, stderr=subprocess.DEVNULL, env=environment
    ):
        os.close(theirs)
        text = b""
        try:
            while part := os.read(ours, 1 << 16):
                text += part
        except OSError:  # the other side is closed
            pass
    os.close(ours)
    return re.sub(r"\x1b\[[0-9;]*m", "", text.decode()).splitlines()


def test_weights_fit_80_columns_and_say_how_large_they_are():
    lines = on_a_terminal(80, "weights", "list")
    assert max(map(len, lines)) <= 80
    for name in list_presets():
        source = get_preset(name).source
        if source is not None:
            (line,) = (line for line in lines if line.split()[:1] == [name])
            assert line.rstrip().endswith(source.origin)
            assert re.search(r" (yes|no) +~?\d", line)


def test_presets_fit_80_columns():
    lines = on_a_terminal(80, "presets")
    assert max(map(len, lines)) <= 80
    assert {line.split()[0] for line in lines if line.strip()} >= set(list_presets())
