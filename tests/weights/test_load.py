"""Our own weights files: they come back as they were, say what they are, and damage is noticed."""

import dataclasses
import json
import shutil
import zipfile
from types import SimpleNamespace

import h5py
import keras
import numpy as np
import pytest

from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.errors import WeightsError
from retinaface_tf.models import build_retinaface
from retinaface_tf.util.npz import write_npz
from retinaface_tf.weights.arrays import named_arrays, network_note
from retinaface_tf.weights.convert.convert import convert_weights
from retinaface_tf.weights.hdf5 import save_weights
from retinaface_tf.weights.load import load_weights
from retinaface_tf.weights.npz import save_compact_weights

CONFIG = RetinaFaceConfig(channels=16, negative_slope=0.0)


@pytest.fixture(scope="module")
def network():
    return build_retinaface(CONFIG)


@pytest.fixture(scope="module")
def saved(network, tmp_path_factory):
    return save_weights(network, tmp_path_factory.mktemp("saved") / "net.weights.h5")


def _same(one, other):
    assert one.config == other.config
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_file_says_which_network_it_is(network, saved):
    _same(load_weights(saved), network)
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_a_full_disk_is_a_sentence_before_hdf5_crashes_on_it(network, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100_000))
    with pytest.raises(WeightsError, match=r"Cannot write .*net\.weights\.h5: no space left"):
        save_weights(network, tmp_path / "net.weights.h5")
    assert not list(tmp_path.iterdir())


def test_a_keras_file_loads_too(network, tmp_path):
    network.save(tmp_path / "net.keras")
    _same(load_weights(tmp_path / "net.keras"), network)
    with pytest.raises(WeightsError, match="channels is 16, not 64"):
        load_weights(tmp_path / "net.keras", RetinaFaceConfig())


def test_a_keras_file_of_a_network_that_was_removed_is_not_called_damaged(network, tmp_path):
    network.save(tmp_path / "net.keras")
    with zipfile.ZipFile(tmp_path / "net.keras") as whole:
        parts = {name: whole.read(name) for name in whole.namelist()}
    parts["config.json"] = parts["config.json"].replace(b"mobilenet0.25", b"yunet-slim")
    with zipfile.ZipFile(tmp_path / "old.keras", "w") as old:
        for name, content in parts.items():
            old.writestr(name, content)
    with pytest.raises(WeightsError, match=r"Unknown .*'yunet-slim'.*; use the version .* wrote"):
        load_weights(tmp_path / "old.keras")


@pytest.mark.parametrize("place", [6, 8, 10])  # version needed, flags, compression
def test_archives_of_a_kind_that_nobody_reads_are_damaged(network, tmp_path, place):
    network.save(tmp_path / "net.keras")
    save_compact_weights(network, tmp_path / "net.weights.npz")
    for name in ("net.keras", "net.weights.npz"):
        content = bytearray((tmp_path / name).read_bytes())
        entry = content.rindex(b"PK\x01\x02")
        content[entry + place : entry + place + 2] = b"\xad\xad"
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError, match=r"damaged|neither"):
            load_weights(tmp_path / name)
        with pytest.raises(WeightsError):
            convert_weights(tmp_path / name, CONFIG)
        (tmp_path / "net.pth").write_bytes(content)
        with pytest.raises(WeightsError):
            convert_weights(tmp_path / "net.pth", CONFIG)


def test_weights_that_keras_wrote_need_the_network_named(network, tmp_path):
    path = tmp_path / "plain.weights.h5"
    network.save_weights(path)
    with pytest.raises(WeightsError, match="does not say which network"):
        load_weights(path)
    _same(load_weights(path, CONFIG), network)
    with pytest.raises(WeightsError, match="does not hold the weights of a mobilenet"):
        load_weights(path, dataclasses.replace(CONFIG, backbone="mobilenet0.5"))


def test_another_networks_file_is_told_apart(saved):
    with pytest.raises(WeightsError, match=r"another network \(channels is 16, not 64"):
        load_weights(saved, dataclasses.replace(CONFIG, channels=64))


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
def test_a_truncated_file_is_refused(network, tmp_path, suffix):
    path = tmp_path / f"net{suffix}"
    save_weights(network, path) if suffix == ".weights.h5" else network.save(path)
    content = path.read_bytes()
    for part in (0, 1, 7, 100, 5000, len(content) // 2, len(content) - 10):
        path.write_bytes(content[:part])
        with pytest.raises(WeightsError, match="net"):
            load_weights(path)


def test_a_changed_number_is_noticed(saved, tmp_path, network):
    content = saved.read_bytes()
    kernel = network.get_layer("p4_merge_conv").get_weights()[0].tobytes()[:64]
    assert content.count(kernel) == 1
    path = tmp_path / "net.weights.h5"
    path.write_bytes(content.replace(kernel, kernel[:8] + b"\x00" * 4 + kernel[12:]))
    with pytest.raises(WeightsError, match="its numbers changed"):
        load_weights(path)


@pytest.mark.parametrize(
    "note, message",
    [
        ("{", "not readable"),
        ("[]", "not readable"),
        (json.dumps({"format": 2, "config": {}}), "upgrade"),
        (json.dumps({"format": 1, "config": {"depth": 4}}), "does not know"),
    ],
)
def test_a_strange_note_is_refused(saved, tmp_path, note, message):
    path = tmp_path / "net.weights.h5"
    path.write_bytes(saved.read_bytes())
    with h5py.File(path, "r+") as file:
        file.attrs["retinaface_tf"] = note
    with pytest.raises(WeightsError, match=message):
        load_weights(path)


def test_foreign_files_are_refused(tmp_path):
    (tmp_path / "text.weights.h5").write_text("not weights")
    other = keras.Sequential([keras.Input((3,)), keras.layers.Lambda(lambda x: x)])
    other.save(tmp_path / "other.keras")
    for name, message in (
        ("text.weights.h5", "neither"),
        ("other.keras", "not a RetinaFace network"),
        ("absent.weights.h5", "no weights file"),
        (".", "folder"),
    ):
        with pytest.raises(WeightsError, match=message):
            load_weights(tmp_path / name, CONFIG)


def test_a_file_is_written_whole_or_not_at_all(network, saved, tmp_path, monkeypatch):
    path = tmp_path / "net.weights.h5"
    path.write_bytes(b"before")

    def full_disk(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(network), "save_weights", full_disk)
    with pytest.raises(WeightsError, match="no space left"):
        save_weights(network, path)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(WeightsError, match=r"ends in \.weights\.h5"):
        save_weights(network, tmp_path / "net.bin")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"channels": 10_000_000}, "channels=10000000 must be"),
        ({"levels": [{"stride": 8, "anchor_sizes": [16.0] * 5000}]}, "5000 anchor sizes"),
        ({"dense": {"vertices": 10**9}}, "dense.vertices=1000000000 must be"),
        ({"dense": {"vertices": 200_000, "rank": 1000}}, "dense.vertices . dense.rank"),
        ({"dense": {"hidden": [10**8]}}, "dense.hidden=.* must be"),
    ],
)
@pytest.mark.parametrize("wanted", [None, CONFIG])
def test_a_note_asks_for_no_more_than_a_network_has(saved, tmp_path, change, said, wanted):
    path = tmp_path / "net.weights.h5"
    shutil.copy(saved, path)
    with h5py.File(path, "r+") as file:
        note = json.loads(file.attrs["retinaface_tf"])
        file.attrs["retinaface_tf"] = json.dumps({**note, "config": {**note["config"], **change}})
    with pytest.raises(WeightsError, match=said):
        load_weights(path, wanted)


def test_arrays_of_hdf5_stand_in_the_file_and_have_its_size(saved, tmp_path):
    path, other = tmp_path / "net.weights.h5", tmp_path / "other.h5"
    shutil.copy(saved, other)
    for name, change in {
        "would unpack": lambda file: file.create_dataset(
            "x", shape=(1 << 31,), dtype="f4", chunks=(1 << 20,), compression="gzip"
        ),
        "'x' elsewhere": lambda file: file.__setitem__(
            "x", h5py.ExternalLink(str(other), "/layers")
        ),
        "'y' elsewhere": lambda file: file.create_dataset(
            "y", shape=(4,), dtype="f4", external=[(str(other), 0, 16)]
        ),
    }.items():
        shutil.copy(saved, path)
        with h5py.File(path, "r+") as file:
            change(file)
        with pytest.raises(WeightsError, match=name):
            load_weights(path)


@pytest.mark.parametrize("suffix", [".weights.h5", ".weights.npz", ".keras"])
def test_numbers_that_are_not_finite_are_refused(tmp_path, suffix):
    network = build_retinaface(CONFIG)
    norm = network.get_layer("stem_bn")
    norm.beta.assign(np.full(norm.beta.shape, np.nan))
    path = tmp_path / f"net{suffix}"
    if suffix == ".keras":
        network.save(path)
    elif suffix == ".weights.h5":
        save_weights(network, path)
    else:
        arrays = named_arrays(network)
        write_npz(path, arrays, network_note(network, arrays), key="retinaface_tf")
    with pytest.raises(WeightsError, match=r"not finite in .*beta"):
        load_weights(path)
