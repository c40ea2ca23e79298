"""Wheels that a test writes, for a package index that is a folder."""

from __future__ import annotations

import base64
import hashlib
import os
import zipfile
from pathlib import Path


def write_wheel(folder: Path, name: str, members: dict[str, bytes]) -> Path:
    """Writes version 1.0 of a package for any platform, with a licence and a dependency that is nowhere.

    Args:
        folder: of the index.
        name: of the package, with dashes.
        members: contents by path.
    """
    stem = f"{name.replace('-', '_')}-1.0"
    members = {
        **members,
        f"{stem}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        "Requires-Dist: does-not-exist\n".encode(),
        f"{stem}.dist-info/WHEEL": b"Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\n"
        b"Tag: py3-none-any\n",
        f"{stem}.dist-info/licenses/LICENSE": b"Permission is granted.",
    }
    record = ""
    for member, content in members.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
        record += f"{member},sha256={digest.decode()},{len(content)}\n"
    path = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in {**members, f"{stem}.dist-info/RECORD": record.encode()}.items():
            archive.writestr(member, content)
    return path


def use_index(monkeypatch, folder: Path) -> None:
    """Makes a folder of wheels the only thing that pip fetches from."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
