"""Packaged networks: a stand-in made of the pulled weights, and the package's own once it has them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from retinaface_tf import presets
from retinaface_tf.sources import packaged as packaged_files
from tests.helpers.bare import packaged_presets


class Packaged(NamedTuple):
    """A preset whose weights are packaged.

    Attributes:
        name: of the preset.
        source: its source.
        arguments: of `bare.forbid`, to have it in another process too.
    """

    name: str
    source: packaged_files.Packaged
    arguments: tuple[str, ...]


@pytest.fixture(scope="session")
def stand_in_files(public_weights, astronaut, tmp_path_factory) -> Path:
    """A folder with the pulled network as `standin`: weights, a float32 and an int8 file."""
    from retinaface_tf.export.tflite import export_tflite
    from retinaface_tf.weights.choose_file import runnable_file
    from retinaface_tf.weights.load import load_weights
    from retinaface_tf.weights.npz import save_compact_weights

    folder = tmp_path_factory.mktemp("packaged")
    names = packaged_files.file_names("standin")
    network = load_weights(public_weights)
    save_compact_weights(network, folder / names["weights"])
    shutil.copy(runnable_file(public_weights)[0], folder / names["float32"])
    # Ranges are measured on parts of the portrait that the tests use.
    parts = [astronaut[y : y + 256, x : x + 256] for y in (0, 60, 120) for x in (60, 120, 200)]
    export_tflite(
        network, folder / names["int8"], size=(256, 256), precision="int8", calibration=parts
    )
    facts = {"figures": {"AP, made up": "0.123"}}
    (folder / names["facts"]).write_text(json.dumps(facts))
    return folder


@pytest.fixture
def stand_in(stand_in_files, monkeypatch) -> Packaged:
    """The preset "stand-in", in this process."""
    source = packaged_files.Packaged(stem="standin", licence="MIT (a test)", folder=stand_in_files)
    preset = presets.Preset(
        name="stand-in", summary="a stand-in", config=presets.RetinaFaceConfig(), source=source
    )
    monkeypatch.setitem(presets._PRESETS, "stand-in", preset)
    return Packaged("stand-in", source, (str(stand_in_files), "standin", "stand-in"))


@pytest.fixture(params=["stand-in", *packaged_presets()])
def packaged(request) -> Packaged:
    """The stand-in, then each preset whose weights this package has."""
    if request.param == "stand-in":
        return request.getfixturevalue("stand_in")
    source = presets.get_preset(request.param).source
    return Packaged(request.param, source, ())
