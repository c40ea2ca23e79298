"""Uses a detector in forked and spawned processes: python -m tests.helpers.use_in_processes EXPRESSION PHOTO.

Prints a line for each way: "same" where the answer is that of this process, else the error.
"""

import multiprocessing
import os
import signal
import sys

from retinaface_tf import RetinaFace  # noqa: F401 - for the expression
from retinaface_tf.errors import RetinaFaceError
from retinaface_tf.inference.test_time_augmentation import (  # noqa: F401
    Augmentation,
    AugmentedDetector,
)
from retinaface_tf.inference.yunet import YuNetBackend  # noqa: F401
from tests.helpers.waiting import PATIENCE

# A process that hangs is ended after this many seconds.
LIMIT = int(PATIENCE)


def make(expression: str):
    """The detector that an expression makes."""
    return eval(expression)


def in_forked_child(detector, photo, faces, end) -> str:
    """`end` is os._exit, or sys.exit, which also closes all that the child has."""
    receive, send = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(LIMIT)
        os.write(send, answer(lambda: detector.detect([photo, photo]) == [faces] * 2).encode())
        end(0)
    _, status = os.waitpid(child, 0)
    os.close(send)
    with os.fdopen(receive) as said:
        return said.read() if status == 0 else f"status {status}"


def answer(equal) -> str:
    try:
        return "same" if equal() else "another answer"
    except RetinaFaceError as error:
        return str(error)


def main(expression: str, photo: str) -> None:
    """Prints `fork`, `fork and exit`, and pools of both kinds."""
    detector = make(expression)
    faces, again = detector.detect([photo, photo])
    assert len(faces) and faces == again
    print("fork:", in_forked_child(detector, photo, faces, os._exit), flush=True)
    if "onnx" not in expression:  # `import onnxruntime` alone makes such a child wait for ever
        print("fork and exit:", in_forked_child(detector, photo, faces, sys.exit), flush=True)
    for start in ("fork", "spawn"):
        with multiprocessing.get_context(start).Pool(1) as pool:
            found = pool.map_async(detector.detect, [photo, photo])
            print(
                f"{start} pool:",
                answer(lambda found=found: found.get(LIMIT) == [faces] * 2),
                flush=True,
            )
    assert detector.detect(photo) == faces


if __name__ == "__main__":
    main(*sys.argv[1:])
