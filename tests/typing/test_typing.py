"""Types of the public names: a user's script has no fault, and every wrong use is one."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import pytest

from retinaface_tf.config import DetectionSettings, SettingsChanges

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = REPOSITORY / "tests" / "typing" / "user_script.py"
BEGIN = """
from retinaface_tf import Face, Faces, RetinaFace, build_retinaface, load_image
detector = RetinaFace.from_preset()
faces = detector.detect("a.png")
"""
WRONG = [
    "RetinaFace.from_preset(treshold=0.5)",
    "RetinaFace.from_preset(runtime='tflite')",
    "RetinaFace.from_preset(precision='int4')",
    "RetinaFace.from_preset(threshold='0.5')",
    "RetinaFace.from_file('a.tflite', thread=2)",
    "RetinaFace.from_endpoint('host:1', time_out=3)",
    "RetinaFace.from_endpoint('host:1', protocol='soap')",
    "detector.detect('a.png', maxfaces=3)",
    "detector.detect('a.png', size='large')",
    "detector.detect(['a.png'], on_error='ignore')",
    "detector.detect(3)",
    "detector.detect([3])",
    "detector.stream(['a.png'], batch=4)",
    "detector.settings.replace(iuo=0.4)",
    "detector.detect(['a.png']).boxes",
    "one: Face = faces[:2]",
    "several: Faces = faces[0]",
    "faces['nose']",
    "faces.align('a.png', side=112)",
    "load_image('a.png', max_pixel=3)",
    "build_retinaface('lite', shape=(1, 2, 3))",
    "from retinaface_tf import RetinaFaces",
]


def run_mypy(*files: Path, cache: Path) -> list[str]:
    pytest.importorskip("mypy")
    command = [sys.executable, "-m", "mypy", "--cache-dir", cache, "--no-error-summary"]
    done = subprocess.run(
        [*map(str, [*command, *files])], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert not done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("mypy")


@pytest.fixture
def wrong(tmp_path) -> tuple[Path, set[int]]:
    """A script of wrong uses, and their lines."""
    path = tmp_path / "wrong.py"
    path.write_text(BEGIN + "\n".join(WRONG) + "\n")
    first = BEGIN.count("\n") + 1
    return path, set(range(first, first + len(WRONG)))


def test_settings_by_keyword_are_those_of_the_dataclass():
    assert get_type_hints(SettingsChanges) == get_type_hints(DetectionSettings)


@pytest.mark.slow
def test_what_users_call_is_typed(cache):
    assert run_mypy(cache=cache) == []


@pytest.mark.slow
def test_mypy_sees_every_wrong_use(wrong, cache):
    path, lines = wrong
    said = [line for line in run_mypy(path, cache=cache) if ": error:" in line]
    assert {int(line.split(":")[1]) for line in said} == lines, "\n".join(said)


@pytest.mark.slow
def test_pyright_too(wrong, tmp_path):
    pyright = shutil.which("pyright")
    if pyright is None or subprocess.run([pyright, "--version"], capture_output=True).returncode:
        pytest.skip("needs pyright, which fetches itself through npm once")
    python = ["--pythonpath", sys.executable]
    done = subprocess.run(
        [pyright, *python], cwd=REPOSITORY, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout
    _, lines = wrong
    (tmp_path / "pyrightconfig.json").write_text(f'{{"extraPaths": ["{REPOSITORY}"]}}')
    done = subprocess.run(
        [pyright, *python, "--project", tmp_path], capture_output=True, text=True, timeout=300
    )
    said = [line for line in done.stdout.splitlines() if " - error:" in line]
    found = {int(line.split(" - ")[0].split(":")[-2]) for line in said}
    assert found == lines, done.stdout
