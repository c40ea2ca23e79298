"""Fifty photos of many sizes through a server with trained weights: the library's own faces."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from retinaface_tf import RetinaFace
from retinaface_tf.export.savedmodel import export_savedmodel
from retinaface_tf.geometry.boxes import pairwise_iou
from retinaface_tf.inference.runtimes.keras import KerasRuntime

pytest.importorskip("grpc_health")
pytest.importorskip("aiohttp")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def fifty(data):
    """Photos at original sizes, mixed."""
    folders = (("wider/val", 12), ("fddb", 10), ("unlabelled", 28))
    files = []
    for folder, count in folders:
        found = sorted(
            p for p in (data / folder).rglob("*") if p.suffix.lower() in (".jpg", ".png")
        )
        files += found[:: len(found) // count][:count]
    files.sort(key=lambda path: path.name)
    assert len(files) == 50
    return files


@pytest.fixture(scope="module")
def trained(public_weights):
    from retinaface_tf.weights.load import load_weights

    return load_weights(public_weights)


@pytest.fixture(scope="module")
def expected(trained, fifty):
    return RetinaFace(KerasRuntime(trained)).detect(fifty)


@pytest.fixture(scope="module")
def trained_server(trained, run_server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "retinaface"
    export_savedmodel(trained, folder)
    with run_server(folder) as running:
        yield running


def assert_same(expected, answers):
    worst, count = 1.0, 0
    for faces, (boxes, scores) in zip(expected, answers, strict=True):
        assert len(faces) == len(boxes)
        if len(boxes):
            overlaps = pairwise_iou(faces.boxes, np.asarray(boxes, np.float32))
            worst = min(worst, float(overlaps.max(1).min()))
            order = overlaps.argmax(1)
            np.testing.assert_allclose(np.asarray(scores)[order], faces.scores, atol=1e-4)
            count += len(boxes)
    print(f"{len(expected)} photos, {count} faces, least IoU {worst:.6f}")
    assert count > 100 and worst >= 0.999


@pytest.mark.parametrize("kind", ["grpc", "rest"])
def test_our_client_gets_the_librarys_faces(trained_server, expected, fifty, kind):
    remote = RetinaFace.from_endpoint(getattr(trained_server, kind), protocol=kind)
    assert_same(expected, [(f.boxes, f.scores) for f in remote.detect(fifty, batch_size=16)])


@pytest.mark.parametrize("kind", ["stubs", "ovmsclient", "reflection", "rest"])
def test_clients_nobody_here_wrote_get_them_too(trained_server, expected, fifty, kind):
    pytest.importorskip(
        {
            "stubs": "tensorflow_serving",
            "ovmsclient": "ovmsclient",
            "reflection": "grpc_reflection",
            "rest": "requests",
        }[kind]
    )
    script = Path(__file__).parents[1] / "helpers" / "foreign_client.py"
    target = trained_server.rest if kind == "rest" else trained_server.grpc
    run = subprocess.run(
        [sys.executable, script, kind, target, "retinaface", *fifty],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    answer = json.loads(run.stdout)
    faces = zip(answer["boxes"], answer["scores"], answer["num_faces"])
    assert_same(expected, [(boxes[:n], scores[:n]) for boxes, scores, n in faces])
