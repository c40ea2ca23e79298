"""Runs a module, and kills it once a checkpoint is there: `python -m tests.helpers.killed_after STEP MODULE WORDS...`."""

import os
import runpy
import signal
import sys

from retinaface_tf.training.checkpoint import Checkpoints


def main(last: int, module: str) -> None:
    save = Checkpoints.save

    def save_and_die(self, step, *arguments):
        save(self, step, *arguments)
        if step == last:
            os.kill(os.getpid(), signal.SIGKILL)

    Checkpoints.save = save_and_die
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _, step, name, *words = sys.argv
    sys.argv = [name, *words]
    main(int(step), name)
