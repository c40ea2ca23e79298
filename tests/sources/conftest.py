"""Packaged networks: a stand-in made of the pulled weights, and the package's own once it has them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from retinaface_tf import presets
from retinaface_tf.sources import packaged as shipped
from tests.helpers.bare import packaged_presets


class Packaged(NamedTuple):
    """A preset whose weights are packaged.

    Attributes:
        name: of the preset.
        source: its source.
        arguments: of `bare.forbid`, to have it in another process too.
    """

    name: str
    source: shipped.Packaged
    arguments: tuple[str, ...]


@pytest.fixture(scope="session")
def stand_in_files(public_weights, tmp_path_factory) -> Path:
    """A folder with the pulled network as `standin`; its "int8" file is float32 too."""
    from retinaface_tf.weights.files import compile_weights
    from retinaface_tf.weights.load import load_weights
    from retinaface_tf.weights.npz import save_compact_weights

    folder = tmp_path_factory.mktemp("shipped")
    names = shipped.file_names("standin")
    save_compact_weights(load_weights(public_weights), folder / names["weights"])
    for kind in ("float32", "int8"):
        shutil.copy(compile_weights(public_weights), folder / names[kind])
    facts = {"figures": {"AP, made up": "0.123"}}
    (folder / names["facts"]).write_text(json.dumps(facts))
    return folder


@pytest.fixture
def stand_in(stand_in_files, monkeypatch) -> Packaged:
    """The preset "stand-in", in this process."""
    source = shipped.Packaged(stem="standin", licence="MIT (a test)")
    preset = presets.Preset(
        name="stand-in", summary="a stand-in", config=presets.RetinaFaceConfig(), source=source
    )
    monkeypatch.setattr(shipped, "FOLDER", stand_in_files)
    monkeypatch.setitem(presets._PRESETS, "stand-in", preset)
    return Packaged("stand-in", source, (str(stand_in_files), "standin", "stand-in"))


@pytest.fixture(params=["stand-in", *packaged_presets()])
def packaged(request) -> Packaged:
    """The stand-in, then each preset whose weights this package has."""
    if request.param == "stand-in":
        return request.getfixturevalue("stand_in")
    source = presets.get_preset(request.param).source
    return Packaged(request.param, source, ())
