"""Models and runtimes side by side: latency, memory, size, load time, accuracy.

Each candidate lives in a process of its own, so that memory and load time are its own too; the
processes search one image each in turn, so that a change of the machine's speed meets all.
"""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from retinaface_tf.errors import RetinaFaceError
from retinaface_tf.evaluation.average_precision import average_precision
from retinaface_tf.presets import DEFAULT_PRESET
from retinaface_tf.util.files import is_file, is_folder
from retinaface_tf.util.process import child_environment, claim_stdout


@dataclass(frozen=True)
class Candidate:
    """What is measured.

    Attributes:
        model: a file, a SavedModel folder, or the name of a runtime, "auto" or "fastest", for the preset.
        threads: cores it may use.
        preset: whose weights a runtime's name means.
    """

    model: str
    threads: int
    preset: str = DEFAULT_PRESET

    @property
    def name(self) -> str:
        """Short name for tables."""
        named = Path(self.model).name or self.model
        return f"{named}, {self.threads} thread{'s' * (self.threads > 1)}"


@dataclass
class Measurement:
    """What was found for a candidate.

    Attributes:
        runtime: what runs it: of `RUNTIMES`, or "tensorflow" for a SavedModel.
        file_bytes: of the file that is run, or of the folder.
        start_seconds: from starting Python to the first answer, imports included.
        load_seconds: of that, opening the model.
        seconds: by size "WIDTHxHEIGHT", one end-to-end time for each round: pixels in, faces out.
        peak_bytes: most memory the process ever held, Python and libraries included.
        average_precision: by IoU 0.5 on the labelled images, if any were given.
    """

    name: str
    model: str
    threads: int
    runtime: str
    file_bytes: int
    start_seconds: float
    load_seconds: float
    seconds: dict[str, list[float]] = field(default_factory=dict)
    peak_bytes: int = 0
    average_precision: float | None = None

    def percentiles(self, size: str) -> tuple[float, float, float]:
        """Milliseconds at the 50th, 90th and 99th percentile."""
        return tuple(1000 * np.percentile(self.seconds[size], [50, 90, 99]))

    def to_dict(self) -> dict:
        """Fit for JSON, percentiles beside the times."""
        latency = {
            size: dict(zip(("p50_ms", "p90_ms", "p99_ms"), self.percentiles(size)))
            for size in self.seconds
        }
        return {**asdict(self), "latency": latency}


def measure(
    candidates: Sequence[Candidate],
    photo: Path,
    sizes: Sequence[tuple[int, int]],
    *,
    rounds: int = 30,
    labelled: Sequence = (),
    notify: Callable[[str], None] = lambda text: None,
) -> list[Measurement]:
    """Measures all candidates in one run.

    Args:
        photo: image that is fitted into every size for timing.
        sizes: (height, width) of the timed images.
        rounds: timed answers of each candidate at each size, after three to warm up.
        labelled: `data.annotation.AnnotatedImage`s for average precision.

    Raises:
        RetinaFaceError: a candidate cannot be opened or fails.
    """
    workers: list[_Worker] = []
    try:
        for candidate in candidates:
            notify(f"starting {candidate.name}")
            workers.append(_Worker(candidate, photo))
        for size in sizes:
            label = f"{size[1]}x{size[0]}"
            notify(f"timing {label}")
            for number in range(rounds + 3):
                for worker in workers:
                    seconds = worker.ask(ask="time", size=list(size))["seconds"]
                    if number >= 3:
                        worker.result.seconds.setdefault(label, []).append(seconds)
        for worker in workers:
            worker.result.peak_bytes = worker.ask(ask="memory")["bytes"]
        truth = [(image.boxes, image.ignored) for image in labelled]
        for worker in workers if labelled else ():
            notify(f"searching {len(labelled)} labelled images with {worker.candidate.name}")
            answers = [worker.ask(ask="detect", path=str(image.path)) for image in labelled]
            found = [(np.array(a["boxes"]), np.array(a["scores"])) for a in answers]
            worker.result.average_precision = average_precision(found, truth)
        return [worker.result for worker in workers]
    finally:
        for worker in workers:
            worker.close()


class _Worker:
    """The other end of `serve_candidate`: one process, one candidate."""

    def __init__(self, candidate: Candidate, photo: Path):
        self.candidate = candidate
        start = time.perf_counter()
        threads = str(candidate.threads)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", f"import {__name__} as speed; speed.serve_candidate()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            # TensorFlow, BLAS and OpenCV read these; LiteRT and onnxruntime get the number directly.
            env=child_environment(
                OMP_NUM_THREADS=threads, TF_NUM_INTRAOP_THREADS=threads, TF_NUM_INTEROP_THREADS="1"
            ),
        )
        opened = self.ask(photo=str(photo), **asdict(candidate))
        self.result = Measurement(
            name=candidate.name,
            model=candidate.model,
            threads=candidate.threads,
            start_seconds=time.perf_counter() - start,
            **opened,
        )

    def ask(self, **question) -> dict:
        """The answer of the process to one question, a JSON line each."""
        with contextlib.suppress(OSError):  # it ended: then there is no answer
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RetinaFaceError(
                f"The process of {self.candidate.name} ended with code {self._process.wait()}; "
                "try that model with `retinaface-tf detect` to see why."
            )
        answer = json.loads(line)
        if "error" in answer:
            raise RetinaFaceError(f"{self.candidate.name}: {answer['error']}")
        return answer

    def close(self) -> None:
        """Ends the process."""
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()


def serve_candidate() -> None:
    """Answers questions on standard input until it closes; the first one names the candidate."""
    answers, opened = claim_stdout(), None
    for line in sys.stdin:
        question = json.loads(line)
        try:
            if opened is None:
                opened = _Opened(**question)
                answer = opened.figures
            else:
                answer = getattr(opened, question.pop("ask"))(**question)
        except RetinaFaceError as error:
            answer = {"error": str(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


class _Opened:
    """A candidate in its process; each method answers one question."""

    def __init__(self, model: str, threads: int, preset: str, photo: str):
        import cv2

        from retinaface_tf.images.read import read_image
        from retinaface_tf.inference.detector import RetinaFace
        from retinaface_tf.weights.choose_file import RUNTIMES, preset_file, runnable_file

        cv2.setNumThreads(threads)
        start, file = time.perf_counter(), Path(model)
        named = model if model in ("auto", "fastest", *RUNTIMES) else "auto"
        if named != model and is_folder(file):
            self._detect, runtime = _open_saved_model(file, threads), "tensorflow"
        else:
            if named == model:
                file = preset_file(preset, named)
            file, runtime = runnable_file(file, named)
            detector = RetinaFace.from_file(file, runtime=runtime, threads=threads)
            self._detect = detector.detect
        load_seconds = time.perf_counter() - start
        files = [f for f in file.rglob("*") if is_file(f)] if is_folder(file) else [file]
        size = sum(f.stat().st_size for f in files)
        self.figures = {"runtime": runtime, "load_seconds": load_seconds, "file_bytes": size}
        self._photo = read_image(photo)
        self._frames: dict[tuple[int, ...], np.ndarray] = {}
        self._detect(self._photo)

    def time(self, size: list[int]) -> dict:
        """Seconds of one detection in the photo at (height, width)."""
        from retinaface_tf.faces.drawing import fit_into

        frame = self._frames.get(tuple(size))
        if frame is None:
            frame = self._frames[tuple(size)] = fit_into(self._photo, *size, 128)
        start = time.perf_counter()
        self._detect(frame)
        return {"seconds": time.perf_counter() - start}

    def memory(self) -> dict:
        """Most bytes this process ever held."""
        import resource

        scale = 1 if sys.platform == "darwin" else 1024
        return {"bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale}

    def detect(self, path: str) -> dict:
        """Boxes and scores of an image."""
        faces = self._detect(path, threshold=0.02)
        return {"boxes": faces.boxes.tolist(), "scores": faces.scores.tolist()}


def _open_saved_model(folder: Path, threads: int):
    """`detect` of a SavedModel as `retinaface-tf export savedmodel` writes; settings are its own."""
    import tensorflow as tf

    from retinaface_tf.faces.faces import Faces
    from retinaface_tf.images.read import read_image

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    versions = sorted((f for f in folder.iterdir() if f.name.isdigit()), key=lambda f: int(f.name))
    if versions:
        folder = versions[-1]
    try:
        loaded = tf.saved_model.load(str(folder))
        signature = loaded.signatures["image_tensor"]
    except (OSError, KeyError, ValueError) as error:
        raise RetinaFaceError(
            f"{folder} is not a SavedModel of `retinaface-tf export savedmodel` ({error})."
        ) from None

    def detect(image, threshold: float | None = None) -> Faces:
        image = read_image(image)
        outputs = signature(images=tf.constant(image[None]))
        count = int(outputs["num_faces"][0])
        return Faces(
            boxes=outputs["boxes"][0, :count].numpy(),
            scores=outputs["scores"][0, :count].numpy(),
            landmarks=outputs["landmarks"][0, :count].numpy(),
            image_size=image.shape[:2],
        )

    detect.loaded = loaded
    return detect
