"""The distributions: built from this checkout, and used in an empty environment, far from the checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path, PurePosixPath

import cv2
import pytest
from PIL import Image

from tests.helpers.own_parts import OWN_TRAINING, write_own_parts

REPOSITORY = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Standard output of a command that knows nothing of this checkout."""
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={**own, **environment},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def package_files() -> set[str]:
    """Files of the package that git tracks, as paths from the checkout."""
    if not (REPOSITORY / ".git").exists() or shutil.which("git") is None:
        pytest.skip("needs a git checkout")
    command = ["git", "ls-files", "-co", "--exclude-standard", "retinaface_tf"]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return {name for name in listed.stdout.splitlines() if (REPOSITORY / name).is_file()}


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """The interpreter of an empty environment."""
    folder = tmp_path_factory.mktemp("wheel") / "environment"
    run(sys.executable, "-m", "venv", folder, cwd=folder.parent)
    python = folder / "bin" / "python"
    asked = [python, "-m", "pip", "download", "--quiet", "--no-deps", "setuptools>=77"]
    done = subprocess.run(asked, cwd=folder, capture_output=True, text=True, timeout=300)
    if done.returncode:
        pytest.skip(f"needs a package index: {done.stderr.strip()[-300:]}")
    return python


@pytest.fixture(scope="module")
def checkout(package_files, tmp_path_factory) -> Path:
    """A copy of what is built."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "NOTICE", *package_files):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(REPOSITORY / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def distributions(python, checkout, tmp_path_factory) -> Path:
    """A folder with the source distribution, and the wheel that is built of it."""
    pytest.importorskip("build")
    out = tmp_path_factory.mktemp("distributions")
    run(sys.executable, "-m", "build", "--outdir", out, checkout, cwd=out)
    return out


@pytest.fixture(scope="module")
def wheel(distributions) -> Path:
    (wheel,) = distributions.glob("*.whl")
    return wheel


def pip_install(python: Path, *packages: str, cwd: Path) -> None:
    run(python, "-m", "pip", "install", "--quiet", *packages, cwd=cwd)


@pytest.fixture(scope="module")
def core(python, wheel):
    """Runs a program of an environment in which nothing but the wheel was asked for."""
    pip_install(python, str(wheel), cwd=wheel.parent)

    def call(program: str, *arguments: str | Path, cwd: Path) -> str:
        cache = str(cwd / "cache")
        return run(python.with_name(program), *arguments, cwd=cwd, RETINAFACE_TF_CACHE=cache)

    return call


@pytest.fixture(scope="module")
def with_keras(core, python, wheel):
    """The same environment, with what training and exports need."""
    pip_install(python, f"{wheel}[train,export]", cwd=wheel.parent)
    return core


def test_both_distributions_have_every_file_of_the_package(distributions, wheel, package_files):
    (source,) = distributions.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        assert package_files - set(archive.namelist()) == set()
    with tarfile.open(source) as archive:
        names = {str(PurePosixPath(*PurePosixPath(n).parts[1:])) for n in archive.getnames()}
    assert package_files - names == set()


def test_an_index_takes_them(distributions):
    pytest.importorskip("twine")
    files = sorted(distributions.iterdir())
    run(sys.executable, "-m", "twine", "check", "--strict", *files, cwd=distributions)


def test_a_wheel_requires_the_opencv_without_windows(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        said = Parser().parsestr(archive.read(name).decode())
    required = [line for line in said.get_all("Requires-Dist") if "extra ==" not in line]
    assert [line for line in required if "opencv" in line] == ["opencv-python-headless<6,>=4.11"]
    assert not any(name in " ".join(required) for name in ("tensorflow", "keras", "pyarrow"))


@pytest.mark.parametrize("name", ["opencv-python", "opencv-contrib-python"])
def test_from_source_the_opencv_that_is_there_is_required(python, checkout, tmp_path, name):
    run(sys.executable, "-m", "venv", tmp_path / "other", cwd=tmp_path)
    (packages,) = (tmp_path / "other").glob("lib/python*/site-packages")
    there = packages / f"{name.replace('-', '_')}-4.13.0.dist-info"
    there.mkdir()
    (there / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 4.13.0\n")
    install = [tmp_path / "other" / "bin" / "python", "-m", "pip", "install", "--quiet"]
    said = run(*install, "--dry-run", "--no-deps", "--report=-", checkout, cwd=tmp_path)
    (package,) = json.loads(said)["install"]
    required = [line for line in package["metadata"]["requires_dist"] if "opencv" in line]
    assert required == [f"{name}<6,>=4.11"]


def test_the_core_finds_faces(core, python, wheel, tmp_path, astronaut):
    file = core("python", "-c", "import retinaface_tf as r; print(r.__file__)", cwd=tmp_path)
    assert "site-packages" in file and not Path(file.strip()).is_relative_to(REPOSITORY)
    listed = json.loads(run(python, "-m", "pip", "list", "--format=json", cwd=tmp_path))
    names = {package["name"].lower() for package in listed}
    assert not names & {"tensorflow", "keras", "scipy", "matplotlib", "pyarrow", "onnx", "av"}
    version = core("retinaface-tf", "--version", cwd=tmp_path).split()[-1]
    assert wheel.name.startswith(f"retinaface_tf-{version}-")
    assert "lite" in core("retinaface-tf", "presets", cwd=tmp_path)
    core("retinaface-tf", "demo", "--out", "faces", cwd=tmp_path)
    assert (tmp_path / "faces" / "astronaut.png").is_file()
    Image.fromarray(astronaut).save(tmp_path / "portrait.png")
    clip = cv2.VideoWriter(
        str(tmp_path / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (512, 512)
    )
    for _ in range(3):
        clip.write(astronaut[..., ::-1])
    clip.release()
    outputs = ("--json", "faces.jsonl", "--draw", "drawn", "--crops", "crops")
    core("retinaface-tf", "detect", "portrait.png", "clip.avi", *outputs, cwd=tmp_path)
    core("retinaface-tf", "blur", "portrait.png", "--out", "blurred", cwd=tmp_path)
    blurred = cv2.imread(str(tmp_path / "blurred" / "portrait.png"))
    assert (blurred[120:140, 210:230] != astronaut[120:140, 210:230, ::-1]).mean() > 0.9
    lines = [json.loads(line) for line in (tmp_path / "faces.jsonl").read_text().splitlines()]
    assert len(lines) == 4  # the photo, three frames
    for line in lines:
        (face,) = line["faces"]
        x1, y1, x2, y2 = face["box"]
        # Around the nose, and not much larger than the head.
        assert x1 < 220 < x2 and y1 < 130 < y2 and x2 - x1 < 140 and y2 - y1 < 170
    assert list((tmp_path / "crops").iterdir()) and len(list((tmp_path / "drawn").iterdir())) == 2


def test_with_its_extra_it_trains(with_keras, tmp_path):
    settings = {
        "epochs": 1,
        "synthetic.train": 8,
        "synthetic.validation": 4,
        "synthetic.size": 96,
        "data.size": 96,
        "data.validation_size": 96,
        "data.batch": 4,
    }
    options = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    with_keras("retinaface-tf", "train", "--out", "run", *options, cwd=tmp_path)
    assert (tmp_path / "run" / "last.weights.h5").is_file()


def test_a_user_s_module_trains_with_the_installed_package(with_keras, tmp_path):
    """The module of docs/extend.md: its backbone and its reader, two steps."""
    write_own_parts(tmp_path)
    words = ("--import", "my_faces.py", "train", "--data", "my_faces:csv", "--out", "run")
    with_keras("retinaface-tf", *words, *OWN_TRAINING, cwd=tmp_path)
    assert (tmp_path / "run" / "last.weights.h5").is_file()


def test_with_its_extra_it_exports(with_keras, tmp_path):
    with_keras("retinaface-tf", "export", "tflite", "lite.tflite", cwd=tmp_path)
    with_keras("retinaface-tf", "export", "onnx", "lite.onnx", "--with-nms", cwd=tmp_path)
    with_keras("retinaface-tf", "export", "savedmodel", "model", cwd=tmp_path)
    assert (tmp_path / "lite.onnx").is_file()
    assert (tmp_path / "model" / "1" / "saved_model.pb").is_file()
    with_keras("retinaface-tf", "demo", "--out", "faces", cwd=tmp_path)
    photo = tmp_path / "faces" / "astronaut.png"
    found = with_keras(
        *("retinaface-tf", "detect", photo, "--model", "lite.tflite", "--json", "-"), cwd=tmp_path
    )
    assert len(json.loads(found)["faces"]) == 1


def test_installed_meshes_open(with_keras, tmp_path):
    code = (
        "from retinaface_tf.mesh.topology import load_topology\n"
        "from retinaface_tf.reconstruction.decoder import load_mesh_decoder\n"
        "load_mesh_decoder()\n"
        "print(load_topology().num_vertices)"
    )
    assert with_keras("python", "-c", code, cwd=tmp_path).strip() == "1103"
