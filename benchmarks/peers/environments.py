"""The peers' virtual environments: made once, kept between runs, their sizes measured."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

from benchmarks.peers.listing import Environment, source_mark
from retinaface_tf.util.files import write_whole

INSTALL_SECONDS = 900
# What `python -m venv` puts there itself.
VENV_OWN = ("pip", "setuptools", "_distutils_hack", "pkg_resources", "distutils-precedence.pth")


def install(environment: Environment, folder: Path) -> dict:
    """Makes the environment unless it stands.

    Args:
        environment: what to install.
        folder: of all environments.

    Returns:
        {"python": path, "bytes": [after each step]} or {"error": why pip could not}.
    """
    home = folder / environment.name
    note = home / "installed.json"
    wanted = [list(step) for step in environment.steps]
    if environment.name == "ours":
        wanted.append([f"code {source_mark()}"])
    if note.is_file():
        state = json.loads(note.read_text())
        if state["steps"] == wanted:
            return state
    python = home / "bin/python"
    done = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", str(home)], capture_output=True, text=True
    )
    if done.returncode:
        return {"error": f"no virtual environment: {last_line(done.stderr)}"}
    sizes = []
    for step in environment.steps:
        command = [str(python), "-m", "pip", "install", "--quiet", *step]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS)
        except subprocess.TimeoutExpired:
            return {"error": f"pip install took longer than {INSTALL_SECONDS // 60} minutes"}
        if done.returncode:
            return {"error": f"pip install failed: {last_line(done.stderr)}"}
        sizes.append(size_of(home))
    state = {"steps": wanted, "python": str(python), "bytes": sizes}
    write_whole(note, json.dumps(state, indent=1) + "\n")
    return state


def size_of(home: Path) -> int:
    """Bytes in an environment's site-packages, what every new one has and caches left out."""
    (packages,) = home.glob("lib/python*/site-packages")
    total = 0
    for folder, inside, files in os.walk(packages):
        top = Path(folder) == packages
        inside[:] = [
            name
            for name in inside
            if name != "__pycache__" and not (top and name.split("-")[0] in VENV_OWN)
        ]
        for name in files:
            if not (top and name in VENV_OWN):
                total += (Path(folder) / name).lstat().st_size
    return total


def last_line(text: str) -> str:
    """The last line that says something, short enough for a table."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")] or lines
    return (errors or ["no message"])[-1][:200]


def machine() -> str:
    """This machine in a line."""
    cpu = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return f"{os.cpu_count()} cores ({cpu}), no GPU, Python {platform.python_version()}"
