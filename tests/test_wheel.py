"""The distributions: built from this checkout, and used where the checkout is not at hand."""

from __future__ import annotations

import json
import os
import shutil
import site
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow

BUILD = """
import sys
from setuptools import build_meta
out = sys.argv[1]  # a build replaces sys.argv
build_meta.build_sdist(out)
build_meta.build_wheel(out)
"""


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Standard output of a command that knows nothing of this checkout."""
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={**own, **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
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
def environment(tmp_path_factory) -> Path:
    """The bin folder of a fresh environment that sees the dependencies of the running one."""
    folder = tmp_path_factory.mktemp("wheel") / "environment"
    run(sys.executable, "-m", "venv", folder, cwd=folder.parent)
    python = folder / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "setuptools>=77"]
    done = subprocess.run(install, capture_output=True, text=True, timeout=300)
    if done.returncode:
        pytest.skip(f"needs setuptools>=77: {done.stderr.strip()[-300:]}")
    (packages,) = folder.glob("lib/python*/site-packages")
    # Folders named in a .pth are searched last, and their own .pth files, such as that of an editable
    # installation of the checkout, are not read.
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    return folder / "bin"


@pytest.fixture(scope="module")
def distributions(environment, package_files, tmp_path_factory) -> Path:
    """A folder with the wheel and the source distribution."""
    checkout, out = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("distributions")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "NOTICE", *package_files):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(REPOSITORY / name, checkout / name)
    run(environment / "python", "-c", BUILD, out, cwd=checkout)
    return out


@pytest.fixture(scope="module")
def installed(environment, distributions):
    """Runs a program of an environment in which the wheel is installed, in a given folder."""
    (wheel,) = distributions.glob("*.whl")
    pip = [environment / "python", "-m", "pip", "install", "--quiet", "--no-deps"]
    run(*pip, wheel, cwd=distributions)

    def call(program: str, *arguments: str | Path, cwd: Path) -> str:
        cache = str(cwd / "cache")
        return run(environment / program, *arguments, cwd=cwd, RETINAFACE_TF_CACHE=cache)

    return call


def test_both_distributions_have_every_file_of_the_package(distributions, package_files):
    (wheel,) = distributions.glob("*.whl")
    (source,) = distributions.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        assert package_files - set(archive.namelist()) == set()
    with tarfile.open(source) as archive:
        names = {str(PurePosixPath(*PurePosixPath(n).parts[1:])) for n in archive.getnames()}
    assert package_files - names == set()


def test_the_package_is_not_the_checkouts(installed, tmp_path):
    file = installed("python", "-c", "import retinaface_tf as r; print(r.__file__)", cwd=tmp_path)
    assert "site-packages" in file and not Path(file.strip()).is_relative_to(REPOSITORY)


def test_the_installed_command_detects(installed, tmp_path):
    data = pytest.importorskip("skimage.data")
    from PIL import Image

    assert "lite" in installed("retinaface-tf", "presets", cwd=tmp_path)
    installed("retinaface-tf", "demo", "--out", "faces", cwd=tmp_path)
    assert list((tmp_path / "faces").iterdir())
    Image.fromarray(data.astronaut()).save(tmp_path / "astronaut.png")
    answer = json.loads(
        installed("retinaface-tf", "detect", "astronaut.png", "--json", "-", cwd=tmp_path)
    )
    (face,) = answer["faces"]
    x1, y1, x2, y2 = face["box"]
    # Around the nose, and not much larger than the head.
    assert x1 < 220 < x2 and y1 < 130 < y2 and x2 - x1 < 140 and y2 - y1 < 170


def test_the_installed_command_trains(installed, tmp_path):
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
    installed("retinaface-tf", "train", "--out", "run", *options, cwd=tmp_path)
    assert (tmp_path / "run" / "last.weights.h5").is_file()


def test_installed_meshes_open(installed, tmp_path):
    code = (
        "from retinaface_tf.mesh.topology import load_topology\n"
        "from retinaface_tf.reconstruction.decoder import load_mesh_decoder\n"
        "load_mesh_decoder()\n"
        "print(load_topology().num_vertices)"
    )
    assert installed("python", "-c", code, cwd=tmp_path).strip() == "1103"
