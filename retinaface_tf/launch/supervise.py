"""Runs a command for as long as standard input stays open.

    python -m retinaface_tf.launch.supervise COMMAND...

The launcher, or sshd for it, holds the other end. When the launcher ends in any way, or the connection
breaks, the input ends too and the command is stopped with all its processes. ssh passes no signals on.
"""

import os
import signal
import subprocess
import sys
import threading
import time

# Seconds between asking and killing.
PATIENCE = 2.0


def main(command: list[str]) -> int:
    """The command's exit code; 128 + n when signal n killed it, as in a shell."""
    if os.getpgrp() != os.getpid():
        os.setpgrp()  # So that all of its processes, and no others, can be stopped together.
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    except OSError as error:
        print(f"error: Cannot start {command[0]}: {error.strerror}.", file=sys.stderr)
        return 127
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    threading.Thread(target=_stop_at_end_of_input, daemon=True).start()
    code = process.wait()
    # What the command started and left behind.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)
    return 128 - code if code < 0 else code


def _stop_at_end_of_input() -> None:
    while os.read(0, 4096):
        pass
    os.killpg(0, signal.SIGTERM)
    time.sleep(PATIENCE)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
