"""The module of docs/extend.md, with four photos and their CSV file, and how two steps are trained on it."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from PIL import Image

PAGE = Path(__file__).parents[2] / "docs/extend.md"
_SETTINGS = (
    *("data.labels=faces.csv", "data.images=.", "network.backbone=my_faces:mobilenet_v3"),
    *("epochs=1", "data.size=64", "data.batch=2", "loss.own=my_faces:wing"),
    *("data.max_validation=0", "network.channels=16", "checkpoint_steps=100", "init.source=random"),
)
OWN_TRAINING = [word for setting in _SETTINGS for word in ("--set", setting)]


def write_own_parts(folder: Path) -> str:
    """Writes them into a folder; the code of the module."""
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[1]
    (folder / "my_faces.py").write_text(code)
    with (folder / "faces.csv").open("w", newline="") as file:
        for number in range(4):
            Image.new("RGB", (96, 64), (number * 60, 90, 200)).save(folder / f"{number}.png")
            csv.writer(file).writerow([f"{number}.png", 20, 10, 50, 45])
    return code
