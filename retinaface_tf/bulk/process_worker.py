"""`python -m retinaface_tf.bulk.process_worker`: a worker that reads its shards from standard input.

The first line is the `Job`, each further one a `Shard`. Each is answered with a line of JSON:
{"ready": true}, then a `ShardReport`, or {"failure": "why the run must stop"}. The process ends at
once when its input ends, which also happens when its parent is killed.
"""

import json
import os
import queue
import signal
import sys
import threading
from dataclasses import asdict

from retinaface_tf.bulk.shards import Shard
from retinaface_tf.bulk.worker import Job, Worker
from retinaface_tf.errors import RetinaFaceError
from retinaface_tf.util.process import claim_stdout


def main() -> None:
    """Answers until the input ends."""
    # Ctrl-C is for the parent process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = claim_stdout()
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_listen, args=(lines,), daemon=True).start()

    def reply(entry: dict) -> None:
        answers.write(json.dumps(entry) + "\n")
        answers.flush()

    worker = Worker(Job.from_json(lines.get()))
    reply({"ready": True})
    while True:
        line = lines.get()
        try:
            reply(asdict(worker(Shard.from_json(line))))
        except RetinaFaceError as error:
            reply({"failure": str(error)})
        except Exception as error:
            reply({"failure": f"A worker process failed: {error!r}."})


def _listen(lines: queue.Queue[str]) -> None:
    for line in sys.stdin:
        lines.put(line)
    os._exit(0)


if __name__ == "__main__":
    main()
