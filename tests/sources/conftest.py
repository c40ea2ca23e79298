"""Packaged networks: the package's own, and a copy of one that tests may change."""

from __future__ import annotations

import json
import shutil
from typing import NamedTuple

import pytest

from retinaface_tf import presets
from retinaface_tf.sources import packaged as packaged_files
from tests.helpers.bare import packaged_presets


class Packaged(NamedTuple):
    """A preset whose weights are packaged."""

    name: str
    source: packaged_files.Packaged


@pytest.fixture(params=packaged_presets())
def packaged(request) -> Packaged:
    """Each preset whose weights this package has."""
    return Packaged(request.param, presets.get_preset(request.param).source)


@pytest.fixture
def stand_in(tmp_path, monkeypatch) -> Packaged:
    """The preset "stand-in": the files of `lite` under another name, in a folder of its own."""
    folder = tmp_path / "stand-in"
    folder.mkdir()
    names = packaged_files.file_names("standin")
    for kind, name in packaged_files.file_names("lite").items():
        shutil.copy(packaged_files.FOLDER / name, folder / names[kind])
    (folder / names["facts"]).write_text(json.dumps({"figures": {"AP, made up": "0.123"}}))
    source = packaged_files.Packaged(stem="standin", licence="MIT (a test)", folder=folder)
    config = presets.get_preset("lite").config
    preset = presets.Preset(
        name="stand-in", summary="a copy", config=config, source=source, parameters=0.1, gmac=0.1
    )
    monkeypatch.setitem(presets._PRESETS, "stand-in", preset)
    return Packaged("stand-in", source)
