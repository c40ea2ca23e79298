"""Images in files, tars and tables, and a detector whose answers are known."""

import io
import tarfile

import pytest
from PIL import Image

from retinaface_tf import RetinaFace
from tests.helpers.bright_pixel import BrightPixelRuntime, black_image

pytest.importorskip("pyarrow")


def encoded(number):
    """An image of 64x(64 + number) pixels with number % 3 faces."""
    cells = [(2, 2), (2, 5)][: number % 3]
    stream = io.BytesIO()
    Image.fromarray(black_image(64, 64 + number, *cells)).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def detector():
    return RetinaFace(BrightPixelRuntime())


@pytest.fixture
def folder(tmp_path):
    """Seven images, the fourth (3.png) damaged."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(7):
        content = b"no image" if number == 3 else encoded(number)
        (folder / f"{number}.png").write_bytes(content)
    return folder


def write_tar(path, names, mode="w"):
    with tarfile.open(path, mode) as tar:
        for name in names:
            content = encoded(int(name[0])) if name.endswith(".png") else b"{}"
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path
