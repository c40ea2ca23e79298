"""The web page's own tests, run by node: its decoder, and the page itself in headless Chromium."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
WEB = REPOSITORY / "tflite" / "web"
CHROMIUM = next(
    filter(
        None, (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
    ),
    None,
)


@pytest.fixture(scope="module")
def packages() -> None:
    """What package-lock.json pins, Chromium's driver and the type checker included."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("needs Node.js 20")
    if not (WEB / "node_modules" / "playwright-core").is_dir():
        command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        done = subprocess.run(command, cwd=WEB, capture_output=True, text=True, timeout=300)
        if done.returncode:
            pytest.skip(f"needs the npm registry: {done.stderr.strip()[-300:]}")


@pytest.fixture(scope="module")
def folders(packages, decoder_vectors, astronaut, tmp_path_factory) -> dict[str, str]:
    """Vectors, models and the page's folder, as environment variables for node."""
    from tests.helpers import page_vectors  # here, since it takes Keras along

    vectors = shutil.copytree(decoder_vectors, tmp_path_factory.mktemp("web") / "vectors")
    site = tmp_path_factory.mktemp("web-site")
    models = {name: vectors / "models" / f"{name}.tflite" for name in ("float32", "int8", "dense")}
    page_vectors.write(vectors)
    page_vectors.write_images(vectors / "pictures", astronaut)
    page_vectors.export_dense(models["dense"])
    page_vectors.write_expected(vectors, models)
    page_vectors.write_closer(vectors, models["float32"], astronaut)
    page_vectors.write_stream(vectors / "stream.y4m", astronaut)
    command = [sys.executable, str(WEB / "serve.py"), "--build-only", "--out", str(site)]
    command += [part for path in models.values() for part in ("--model", str(path))]
    subprocess.run(command, check=True, timeout=600)
    return {
        "RETINAFACE_VECTORS": str(vectors),
        "RETINAFACE_SITE": str(site),
        "PYTHON": sys.executable,
        "CHROMIUM": CHROMIUM or "",
    }


def node(environment: dict[str, str], *names: str, skipped: int = 0) -> None:
    """Runs test files; their output is the test's."""
    files = [str(WEB / "test" / name) for name in names]
    command = ["node", "--test", "--test-concurrency=1", "--test-reporter=spec", *files]
    done = subprocess.run(
        command,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=3600,
    )
    print(done.stdout, done.stderr)
    assert done.returncode == 0, done.stdout[-6000:]
    assert f"skipped {skipped}\n" in done.stdout


@pytest.mark.slow
def test_types(packages):
    done = subprocess.run(["npx", "tsc"], cwd=WEB, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_the_decoder_and_its_parts_equal_python(folders):
    node(folders, "faces.test.js", "model.test.js", "pixels.test.js")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (apt-get install chromium)")
def test_the_page_in_chromium(folders):
    # Screenshots, to be looked at, are made where RETINAFACE_SHOTS names a folder.
    node(folders, "page.test.js", skipped=int("RETINAFACE_SHOTS" not in os.environ))


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (apt-get install chromium)")
def test_the_camera_in_chromium(folders):
    node(folders, "camera.test.js")
