"""The small weights file: half the bytes, the same network, and damage is noticed."""

import json
import zipfile

import numpy as np
import pytest

from retinaface_tf.config import PyramidLevel, RetinaFaceConfig
from retinaface_tf.errors import WeightsError
from retinaface_tf.weights.load import load_weights, own_format
from retinaface_tf.weights.npz import load_compact_weights, save_compact_weights

SMALL = RetinaFaceConfig(channels=8, levels=(PyramidLevel(stride=16, anchor_sizes=(32, 64)),))


@pytest.fixture(scope="module")
def network():
    import keras

    from retinaface_tf.models import build_retinaface

    keras.utils.set_random_seed(3)
    return build_retinaface(SMALL)


@pytest.fixture
def path(network, tmp_path):
    return save_compact_weights(network, tmp_path / "small.weights.npz")


def test_kernels_are_rounded_and_vectors_are_not(network, path):
    network.weights[1].assign(np.full(network.weights[1].shape, 1e-6))  # beyond float16
    save_compact_weights(network, path)
    read = load_weights(path)
    assert read.config == SMALL
    for before, after in zip(network.weights, read.weights, strict=True):
        before, after = np.asarray(before), np.asarray(after)
        rounded = before.astype(np.float16).astype(np.float32) if before.ndim > 1 else before
        np.testing.assert_array_equal(after, rounded)
    count = sum(np.asarray(weight).size for weight in network.weights)
    assert path.stat().st_size < 2.6 * count + 60_000


def test_it_is_one_of_our_own_files_and_the_same_each_time(network, path, tmp_path):
    assert own_format(path) == "npz"
    again = save_compact_weights(load_weights(path, SMALL), tmp_path / "again.weights.npz")
    assert again.read_bytes() == path.read_bytes()
    with pytest.raises(WeightsError, match="belongs to another network"):
        load_weights(path, RetinaFaceConfig())


def test_damage_is_one_sentence(path, tmp_path):
    content = path.read_bytes()
    for start in range(1000, len(content), len(content) // 12):
        damaged = bytearray(content)
        damaged[start] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(WeightsError, match="damaged"):
            load_compact_weights(path)
    path.write_bytes(content[:5000])
    with pytest.raises(WeightsError, match="damaged"):
        load_weights(path)


def test_changed_numbers_and_other_versions_are_refused(path):
    with np.load(path) as file:
        arrays = dict(file)
    note = json.loads(arrays["retinaface_tf"].tobytes())

    def write(note, **changed):
        encoded = np.frombuffer(json.dumps(note).encode(), np.uint8)
        np.savez(path, **{**arrays, "retinaface_tf": encoded, **changed})

    name = next(name for name in arrays if name.endswith("kernel"))
    write(note, **{name: arrays[name] * 2})
    with pytest.raises(WeightsError, match="numbers changed"):
        load_weights(path)
    write({**note, "format": 9})
    with pytest.raises(WeightsError, match=r"format 9 .*upgrade"):
        load_weights(path)
    write({**note, "config": {**note["config"], "backbone": "other"}})
    with pytest.raises(WeightsError, match=r"does not know .*; use the version .* that wrote it"):
        load_weights(path)
    write({**note, "config": {**note["config"], "channels": 16}})
    with pytest.raises(WeightsError, match="does not hold the weights"):
        load_weights(path)


def test_numbers_beyond_float16_are_refused(network, tmp_path):
    kernel = network.weights[0]
    kept = np.asarray(kernel)
    kernel.assign(np.full(kernel.shape, 1e6))
    try:
        with pytest.raises(WeightsError, match="float16 cannot hold"):
            save_compact_weights(network, tmp_path / "x.weights.npz")
    finally:
        kernel.assign(kept)
    with pytest.raises(WeightsError, match=r"ends in \.weights\.npz"):
        save_compact_weights(network, tmp_path / "x.npz")
    assert not list(tmp_path.iterdir())


def test_another_programs_archive_is_not_taken_for_one(tmp_path):
    path = tmp_path / "other.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", b"x")
    assert own_format(path) is None
