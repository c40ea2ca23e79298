"""The Python blocks of README and documentation run as they are written, in a folder with photos."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import retinaface_tf

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(astronaut, tmp_path, monkeypatch):
    """A current folder with the photos that the blocks name."""
    (tmp_path / "photos").mkdir()
    for name in ("photo.jpg", "a.jpg", "b.png", "photos/1.jpg", "photos/2.webp"):
        Image.fromarray(astronaut).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)


PAGES = [
    "README.md",
    "docs/api.md",
    "docs/index.md",
    "docs/detect.md",
    "docs/blur.md",
    "docs/faq.md",
    "docs/formulas.md",
]


@pytest.mark.parametrize("page", PAGES)
def test_the_python_blocks_run(page, folder, capsys):
    blocks = re.findall(r"^```python\n(.*?)^```", (REPOSITORY / page).read_text(), re.M | re.S)
    assert blocks
    names: dict = {}
    for block in blocks:
        exec(compile(block, page, "exec"), names)
    if page == "README.md":
        assert len(names["image"].shape) == 3 and [len(faces) for faces in names["many"]] == [1] * 3
        said = capsys.readouterr().out.splitlines()
        assert said[-1] == repr(names["answer"])
        assert all(s.startswith("Faces(1 in 512 x 512 pixels, best score 0.") for s in said[-2:])
        drawn = names["faces"].draw("photo.jpg")
        assert (drawn != names["image"]).any() and drawn.dtype == np.uint8


def test_every_public_name_is_in_an_example_or_led_to():
    page = (REPOSITORY / "docs" / "api.md").read_text()
    assert [name for name in retinaface_tf.__all__ if name not in page] == ["__version__"]
