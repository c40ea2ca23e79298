"""ARM64, as phones and boards have it: what the core finds under qemu is what it finds here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from retinaface_tf.sources.packaged import FOLDER

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow

SIZE = (320, 320)
PHOTOS = 20
COLUMNS = BOX, SCORE, LANDMARKS = slice(0, 4), 4, slice(5, 15)
SEARCH = """
import json, platform, sys, time
from retinaface_tf import RetinaFace

photos, network = sys.argv[1].split(":"), sys.argv[2]
detector = RetinaFace.from_file(network)
detector.detect(photos[0])
start = time.perf_counter()
found = detector.detect(photos)
print(json.dumps({
    "machine": platform.machine(),
    "seconds": time.perf_counter() - start,
    "rows": [[f.box.tolist() + [f.score] + f.landmarks.ravel().tolist() for f in faces] for faces in found],
}))
"""


@pytest.fixture(scope="module")
def arm() -> list[str]:
    """The command that runs an ARM64 Python with the core and this checkout."""
    folder = Path(os.environ.get("RETINAFACE_TF_ARM64", REPOSITORY / ".ci/venv/arm64"))
    if shutil.which("qemu-aarch64-static") is None or not (folder / "site").is_dir():
        pytest.skip(f"needs qemu and ARM64 wheels: .ci/arm64 {folder}")
    system = folder / "system"
    variables = [f"PYTHONPATH={REPOSITORY}:{folder / 'site'}", "PYTHONDONTWRITEBYTECODE=1"]
    options = ["-cpu", "cortex-a76", "-L", system, *(x for v in variables for x in ("-E", v))]
    return ["qemu-aarch64-static", *map(str, options), str(system / "usr/bin/python3")]


@pytest.fixture(scope="module")
def drawn() -> list[np.ndarray]:
    """Drawn scenes, uint8 RGB of `SIZE`."""
    from retinaface_tf.data.options import SyntheticConfig
    from retinaface_tf.data.synthetic.scene import draw_image

    return [draw_image(SyntheticConfig(size=SIZE[0]), index).pixels for index in range(PHOTOS)]


@pytest.fixture(scope="module")
def photos(drawn, astronaut, tmp_path_factory) -> list[Path]:
    """Real photos of the collection, where there is one, the astronaut, and drawn scenes up to 20."""
    from PIL import Image

    collection = Path(os.environ.get("RETINAFACE_TF_TEST_DATA", REPOSITORY.parent / "shared/data"))
    photos = sorted(collection.glob("dlib_faces/*.jpg"))
    folder = tmp_path_factory.mktemp("photos")
    for index, pixels in enumerate([astronaut, *drawn][: PHOTOS - len(photos)]):
        photos.append(folder / f"{index}.png")
        Image.fromarray(pixels).save(photos[-1])
    return photos


@pytest.fixture(scope="module")
def public_int8(public_weights, drawn, tmp_path_factory) -> Path:
    """Preset mobilenet0.25 with int8 weights and maps, exported for any size of images."""
    pytest.importorskip("tensorflow", reason="needs retinaface-tf[export]")
    from retinaface_tf.export.tflite import export_tflite
    from retinaface_tf.weights.load import load_weights

    path = tmp_path_factory.mktemp("int8") / "mobilenet0.25-int8.tflite"
    network = load_weights(public_weights)
    return export_tflite(network, path, size=SIZE, precision="int8", calibration=drawn)


def faces_found(python: list[str], photos: list[Path], network: Path) -> dict:
    command = [*python, "-c", SEARCH, ":".join(map(str, photos)), str(network)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def on_both(arm: list[str], photos: list[Path], network: Path) -> list[np.ndarray]:
    """Rows of box, score and landmarks of all photos' faces, float64 [N, 15], here and on ARM64."""
    found = [faces_found(python, photos, network) for python in ([sys.executable], arm)]
    here, there = (np.concatenate([rows for rows in answer["rows"] if rows]) for answer in found)
    counts, arm_counts = ([len(rows) for rows in answer["rows"]] for answer in found)
    assert found[1]["machine"] == "aarch64"
    assert arm_counts == counts and sum(map(bool, counts)) > PHOTOS // 2
    boxes, scores, landmarks = (np.abs(here - there)[:, i].max() for i in COLUMNS)
    print(
        f"{network.name}: {len(here)} faces; greatest differences: boxes {boxes:.2g} px, scores "
        f"{scores:.2g}, landmarks {landmarks:.2g} px; emulated it takes "
        f"{found[1]['seconds'] / found[0]['seconds']:.0f} times as long"
    )
    return [here, there]


def test_float32_finds_what_it_finds_here(arm, photos):
    here, there = on_both(arm, photos, FOLDER / "lite.tflite")
    np.testing.assert_allclose(there[:, BOX], here[:, BOX], rtol=0, atol=0.1)
    np.testing.assert_allclose(there[:, LANDMARKS], here[:, LANDMARKS], rtol=0, atol=0.1)
    np.testing.assert_allclose(there[:, SCORE], here[:, SCORE], rtol=0, atol=1e-3)


@pytest.mark.parametrize("network", ["packaged", "exported"])
def test_int8_is_equal(arm, photos, network, request):
    path = FOLDER / "lite-int8.tflite"
    if network == "exported":
        path = request.getfixturevalue("public_int8")
    here, there = on_both(arm, photos, path)
    np.testing.assert_array_equal(there[:, SCORE], here[:, SCORE])
    np.testing.assert_array_equal(there[:, LANDMARKS], here[:, LANDMARKS])
    # Corners come of numpy's `exp`, whose last bit is each processor's own.
    np.testing.assert_allclose(there[:, BOX], here[:, BOX], rtol=0, atol=1e-3)


def test_the_command_detects(arm, photos):
    command = [*arm, "-m", "retinaface_tf", "detect", str(photos[-1]), "--json", "-"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout)["faces"]
