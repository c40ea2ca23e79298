"""A folder of images, and a detector whose answers are known."""

import pytest

from retinaface_tf import RetinaFace
from tests.helpers.bright_pixel import BrightPixelRuntime
from tests.helpers.bulk_inputs import encoded

pytest.importorskip("pyarrow")


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
