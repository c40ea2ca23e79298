"""A long list of images, searched in processes of their own, one for each core.

While an interpreter of LiteRT takes another size, its package lets no other thread use Python, so threads of one
process do not use all cores on images of mixed sizes.

`python -m retinaface_tf.inference.in_processes` is such a process. It reads pickles from standard input: None or what
to search with, and a part of the list. It writes a pickle of the answers, or of what went wrong. It ends when its
input does, also where the other side was killed.
"""

from __future__ import annotations

import copy
import os
import pickle
import queue
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TypeGuard

from retinaface_tf.errors import ImageError, WorkerError
from retinaface_tf.faces.faces import Faces
from retinaface_tf.images.read import ImageSource
from retinaface_tf.inference.detector import Detector, RetinaFace
from retinaface_tf.inference.runtimes.litert import LiteRTRuntime
from retinaface_tf.util.process import child_environment, out_of_reach_of_ctrl_c

# Fewer images are answered sooner by threads: processes take 0.8 s to start and to end.
LEAST_IMAGES = 800
# Each takes 300 to 400 MB; with more cores, each has threads.
MOST_PROCESSES = 8
# Given at once: more than `stream` reads ahead, so that images of one size meet; fewer at the end, so that all
# processes end together.
PART, _LEAST_PART = 128, 16
_LEAST_WINDOW_BYTES = 64 << 20


def gains_from_processes(detector: Detector, images: int) -> TypeGuard[RetinaFace]:
    """Whether processes answer so many images, of mixed sizes, sooner than its threads do."""
    runtime = detector.runtime if isinstance(detector, RetinaFace) else None
    if not isinstance(runtime, LiteRTRuntime) or runtime.fixed_shape is not None:
        return False
    return runtime.threads > 1 and images >= LEAST_IMAGES


@contextmanager
def stream_in_processes(
    detector: RetinaFace, images: Sequence[ImageSource], *, batch_size: int = 8
) -> Iterator[Iterator[Faces | ImageError]]:
    """The answers of `detector.stream`, equal bit for bit and in order; the processes end with the block.

    Args:
        detector: with LiteRT.
        images: that can be pickled, such as paths.
        batch_size: as in `stream`.

    Raises:
        WorkerError: a process was killed.
    """
    runtime = copy.copy(detector.runtime)
    assert isinstance(runtime, LiteRTRuntime)
    count = min(runtime.threads, MOST_PROCESSES)
    runtime.threads //= count
    own = RetinaFace(runtime, settings=detector.settings)
    own.window_bytes = max(own.window_bytes // count, _LEAST_WINDOW_BYTES)
    parts = _parts(images, count)
    idle: queue.SimpleQueue[tuple[subprocess.Popen[bytes], tuple[RetinaFace, int] | None]]
    idle, processes = queue.SimpleQueue(), []

    def search(part: Sequence[ImageSource]) -> list[Faces | ImageError]:
        process, search_with = idle.get()
        assert process.stdin and process.stdout
        answers: list[Faces | ImageError] | Exception
        try:
            pickle.dump((search_with, part), process.stdin)
            process.stdin.flush()
            answers = pickle.load(process.stdout)
        except (OSError, ValueError, EOFError, pickle.UnpicklingError):
            raise WorkerError(
                "A process that searched images was killed, perhaps for lack of memory; --threads 1 takes one process."
            ) from None
        finally:
            idle.put((process, None))
        if isinstance(answers, Exception):
            raise answers
        return answers

    def answers() -> Iterator[Faces | ImageError]:
        running = deque(pool.submit(search, part) for part in islice(parts, 2 * count))
        while running:
            yield from running.popleft().result()
            running.extend(pool.submit(search, part) for part in islice(parts, 1))

    pool = ThreadPoolExecutor(count, "processes")
    try:
        with out_of_reach_of_ctrl_c():
            for _ in range(count):
                process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "retinaface_tf.inference.in_processes"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env=child_environment(),
                )
                processes.append(process)
                idle.put((process, (own, batch_size)))
        yield answers()
    finally:
        for process in processes:
            process.kill()
        pool.shutdown(cancel_futures=True)
        for process in processes:
            process.communicate()


def _parts(images: Sequence[ImageSource], count: int) -> Iterator[Sequence[ImageSource]]:
    start = 0
    while left := len(images) - start:
        end = start + min(left, PART, max(left // (2 * count), _LEAST_PART))
        yield images[start:end]
        start = end


def main() -> None:
    """Answers until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent process
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while True:
        try:
            search_with, part = pickle.load(sys.stdin.buffer)
        except (EOFError, pickle.UnpicklingError):
            return
        if search_with:
            detector, batch_size = search_with
        answers: list[Faces | ImageError] | Exception
        try:
            answers = list(detector.stream(part, batch_size=batch_size))
        except Exception as error:
            answers = error
        pickle.dump(answers, replies)
        replies.flush()


if __name__ == "__main__":
    main()
