"""Detectors that are pickled, copied, forked or sent to other processes open their runtime anew."""

from __future__ import annotations

import copy
import json
import pickle
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import pytest
from PIL import Image

from retinaface_tf.util.process import child_environment
from tests.helpers.use_in_processes import make
from tests.helpers.waiting import PATIENCE

EXPRESSIONS = {
    "litert": "RetinaFace.from_preset('lite', threshold=0.6)",
    "int8": "RetinaFace.from_preset('lite', precision='int8')",
    "augmented": "AugmentedDetector(RetinaFace.from_preset('lite'), Augmentation(flip=True))",
    "onnx": "RetinaFace.from_file({onnx!r})",
    "openvino": "RetinaFace.from_preset('lite', runtime='openvino', threads=2)",
    "yunet": "RetinaFace(YuNetBackend({yunet!r}))",
    "keras": "RetinaFace.from_preset('lite', runtime='keras')",
}


@pytest.fixture(
    params=[
        pytest.param(k, marks=[pytest.mark.slow] * (k in ("keras", "openvino")))
        for k in EXPRESSIONS
    ]
)
def expression(request):
    """What makes a detector."""
    files = {}
    if request.param == "openvino":
        pytest.importorskip("openvino")
    if request.param == "onnx":
        from retinaface_tf.weights.choose_file import runnable_file

        weights = request.getfixturevalue("public_weights")
        files["onnx"] = str(runnable_file(weights, "onnx", notify=lambda line: None)[0])
    if request.param == "yunet":
        folder = request.getfixturevalue("data") / "weights" / "ShiqiYu_libfacedetection.train"
        files["yunet"] = str(folder / "yunet_n_dynamic.onnx")
    return EXPRESSIONS[request.param].format(**files)


@pytest.fixture(scope="module")
def photo(astronaut, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("photo") / "a.png"
    Image.fromarray(astronaut).save(path)
    return str(path)


def test_pickles_and_copies_answer_alike(expression, photo):
    detector = make(expression)
    fresh = pickle.loads(pickle.dumps(detector))  # before anything was searched
    faces = detector.detect(photo)
    assert len(faces)
    for other in (fresh, copy.deepcopy(detector), pickle.loads(pickle.dumps(detector))):
        again = pickle.loads(pickle.dumps(other))
        assert other.detect(photo) == faces and again.detect(photo) == faces
        assert other.settings == detector.settings
    assert copy.copy(detector).detect(photo) == faces


def test_many_threads_share_one(expression, photo):
    detector = make(expression)
    faces = detector.detect(photo)
    with ThreadPoolExecutor(8) as pool:
        assert all(found == faces for found in pool.map(detector.detect, [photo] * 24))


def test_other_processes_answer_alike(expression, photo):
    done = subprocess.run(
        [sys.executable, "-m", "tests.helpers.use_in_processes", expression, photo],
        capture_output=True,
        text=True,
        timeout=10 * PATIENCE,
        env=child_environment(),
    )
    ways = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert done.returncode == 0 and {"fork", "fork pool", "spawn pool"} <= set(ways), done.stderr
    assert ways.pop("spawn pool") == "same"
    if "keras" in expression:  # TensorFlow would wait for ever in a forked process
        assert all("get_context('spawn')" in said for said in ways.values())
    else:
        assert set(ways.values()) == {"same"}


@pytest.mark.slow
def test_gunicorn_may_preload_the_detector(astronaut, tmp_path):
    """The application that the documentation shows, with two forked workers."""
    pytest.importorskip("gunicorn")
    page = Path(__file__).parents[2] / "docs" / "serving.md"
    code = page.read_text().partition("# faces_app.py")[2].partition("```")[0]
    # One search before the fork, so that threads and interpreters exist.
    (tmp_path / "faces_app.py").write_text(
        f"{code}\nimport numpy as np\nblank = np.zeros((300, 400, 3), np.uint8)\n"
        "detector.detect([blank] * 4, batch_size=4)\n"
    )
    command = [sys.executable, "-m", "gunicorn", "--preload", "--workers", "2", "--timeout", "600"]
    with socket.create_server(("127.0.0.1", 0)) as opened:
        port, number = opened.getsockname()[1], opened.fileno()
        server = subprocess.Popen(
            [*command, "--bind", f"fd://{number}", "faces_app:app"],
            cwd=tmp_path,
            env=child_environment(),
            pass_fds=[number],
        )
    photo = cv2.imencode(".jpg", astronaut[..., ::-1])[1].tobytes()

    def ask(body):
        request = urllib.request.Request(f"http://127.0.0.1:{port}", body)
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)

    try:
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(ask, [photo] * 12))
        with pytest.raises(urllib.error.HTTPError, match="400"):
            ask(b"no photo")
    finally:
        server.terminate()
        server.wait(PATIENCE)
    assert len(answers[0]["faces"]) == 1 and all(answer == answers[0] for answer in answers)
