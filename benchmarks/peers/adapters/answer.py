"""The adapters' side of the protocol: JSON lines in on stdin, JSON lines out on stdout.

An adapter runs in its peer's own environment, so this file and the adapters need nothing but Python,
numpy and the peer. An adapter gives `serve` one function, `open_detector(options)`, called at the first
image, which returns

    prepare(rgb) -> image      the colour order and type the peer wants; not timed
    detect(image, lowest) -> boxes [N, 4] x1, y1, x2, y2; scores [N]; five points [N, 5, 2] or None

`lowest` asks for as many detections as the peer gives, for a precision-recall curve; without it the peer
works as its users have it. Points: the image's left eye, right eye, nose, left and right mouth corner.

Requests:

    {"do": "detect", "image": FILE.npy, "lowest": true} -> {"boxes", "scores", "landmarks"}
    {"do": "time", "images": [FILE.npy, ...]}           -> {"seconds": [...], "faces": [...]}
    {"do": "state"}                                       -> {"versions", "cpu_seconds", "peak_bytes",
                                                                  "threads", "cores"}

Times are processor time of the process since its start, so that other work on the machine hardly counts.

A request that fails is answered with {"error": "..."}.
"""

import json
import os
import sys
import time
import traceback
from pathlib import Path


def serve(open_detector, packages):
    """Answers requests until stdin ends; `packages` are the distributions whose versions count."""
    # What libraries print goes to stderr: stdout belongs to the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    options = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}
    worker = _Worker(open_detector, options, packages)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(worker, request.pop("do"))(**request)
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"[:500]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


class _Worker:
    def __init__(self, open_detector, options, packages):
        self.open_detector, self.options, self.packages = open_detector, options, packages
        self.detector = None
        self.kept = {}

    def detect(self, image, lowest):
        import numpy as np

        prepare, detect = self._ready()
        boxes, scores, landmarks = detect(prepare(np.load(image)), lowest)
        scores = np.asarray(scores, float).reshape(-1)
        answer = {
            "boxes": np.asarray(boxes, float).reshape(-1, 4).round(3).tolist(),
            "scores": scores.round(7).tolist(),
            "landmarks": None,
        }
        if landmarks is not None:
            points = np.asarray(landmarks, float).reshape(len(scores), 5, 2)
            answer["landmarks"] = points.round(3).tolist()
        return answer

    def time(self, images):
        import numpy as np

        prepare, detect = self._ready()
        seconds, faces = [], []
        for name in images:
            if name not in self.kept:
                self.kept[name] = prepare(np.load(name))
            start = time.process_time()
            found = detect(self.kept[name], False)
            seconds.append(time.process_time() - start)
            faces.append(len(found[1]))
        return {"seconds": seconds, "faces": faces}

    def state(self):
        from importlib.metadata import version

        return {
            "versions": {name: version(name) for name in self.packages},
            "cpu_seconds": time.process_time(),
            "peak_bytes": _status("VmHWM") * 1024,
            "threads": _status("Threads"),
            "cores": len(os.sched_getaffinity(0)),
        }

    def _ready(self):
        if self.detector is None:
            self.detector = self.open_detector(self.options)
        return self.detector


def _status(name):
    """A number of /proc/self/status: kB of memory, or threads."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    return 0


def bgr(rgb):
    """A copy with the colours turned round, contiguous."""
    import numpy as np

    return np.ascontiguousarray(rgb[..., ::-1])


def as_it_is(rgb):
    """For peers that take RGB."""
    return rgb
