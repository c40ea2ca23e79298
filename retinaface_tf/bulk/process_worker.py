"""`python -m retinaface_tf.bulk.process_worker`: a worker that reads its shards from standard input.

Its parent sends pickles: the `Job`, then each `Shard`. Each is answered with a line of JSON:
{"ready": true}, then a `ShardReport`, or {"failure": "why the run must stop"}. The process ends at
once when its input ends, which also happens when its parent is killed.
"""

import contextlib
import json
import os
import pickle
import queue
import signal
import sys
import threading
from dataclasses import asdict

from retinaface_tf.bulk.worker import Worker
from retinaface_tf.errors import RetinaFaceError
from retinaface_tf.util.process import claim_stdout


def main() -> None:
    """Answers until the input ends."""
    # Ctrl-C is for the parent process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = claim_stdout()
    given: queue.Queue = queue.Queue()
    threading.Thread(target=_listen, args=(given,), daemon=True).start()

    def reply(entry: dict) -> None:
        answers.write(json.dumps(entry) + "\n")
        answers.flush()

    worker = Worker(given.get())
    reply({"ready": True})
    while True:
        shard = given.get()
        try:
            reply(asdict(worker(shard)))
        except RetinaFaceError as error:
            reply({"failure": str(error)})
        except Exception as error:
            reply({"failure": f"A worker process failed: {error!r}."})


def _listen(given: queue.Queue) -> None:
    with contextlib.suppress(EOFError, pickle.UnpicklingError):  # the end, perhaps within a pickle
        while True:
            given.put(pickle.load(sys.stdin.buffer))
    os._exit(0)


if __name__ == "__main__":
    main()
