"""Detectors that are pickled, copied, forked or sent to other processes open their runtime anew."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from retinaface_tf.util.process import child_environment
from tests.helpers.use_in_processes import make

EXPRESSIONS = {
    "litert": "RetinaFace.from_preset('lite', threshold=0.6)",
    "int8": "RetinaFace.from_preset('lite', precision='int8')",
    "augmented": "AugmentedDetector(RetinaFace.from_preset('lite'), Augmentation(flip=True))",
    "onnx": "RetinaFace.from_file({onnx!r})",
    "yunet": "RetinaFace(YuNetBackend({yunet!r}))",
    "keras": "RetinaFace.from_preset('lite', runtime='keras')",
}


@pytest.fixture(
    params=[pytest.param(k, marks=[pytest.mark.slow] * (k == "keras")) for k in EXPRESSIONS]
)
def expression(request):
    """What makes a detector."""
    files = {}
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
        timeout=300,
        env=child_environment(),
    )
    ways = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert done.returncode == 0 and {"fork", "fork pool", "spawn pool"} <= set(ways), done.stderr
    assert ways.pop("spawn pool") == "same"
    if "keras" in expression:  # TensorFlow would wait for ever in a forked process
        assert all("get_context('spawn')" in said for said in ways.values())
    else:
        assert set(ways.values()) == {"same"}
