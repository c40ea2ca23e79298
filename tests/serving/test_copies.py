"""A detector around a server that is pickled, copied or forked connects anew."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest

from retinaface_tf import RetinaFace
from retinaface_tf.util.process import child_environment
from tests.helpers.waiting import PATIENCE


@pytest.mark.parametrize("kind", ["grpc", "rest"])
def test_pickles_and_copies_connect_anew(server, photos, kind):
    detector = RetinaFace.from_endpoint(getattr(server, kind), protocol=kind, threshold=0.0)
    faces = detector.detect(photos[0])
    for other in (pickle.loads(pickle.dumps(detector)), copy.deepcopy(detector)):
        found = other.detect(photos[0])
        assert found == faces
        other.backend.client.close()
    np.testing.assert_array_equal(detector.detect(photos[0]).boxes, faces.boxes)


@pytest.mark.parametrize("kind", ["grpc", "rest"])
def test_processes_connect_anew(server, photos, kind, tmp_path):
    photo = tmp_path / "a.jpg"
    photo.write_bytes(photos[0])
    target = getattr(server, kind)
    expression = f"RetinaFace.from_endpoint({target!r}, protocol={kind!r}, threshold=0.0)"
    done = subprocess.run(
        [sys.executable, "-m", "tests.helpers.use_in_processes", expression, str(photo)],
        capture_output=True,
        text=True,
        timeout=10 * PATIENCE,
        env=child_environment(),
    )
    ways = [line.split(": ", 1)[1] for line in done.stdout.splitlines()]
    assert ways == ["same"] * 4, done.stdout + done.stderr
