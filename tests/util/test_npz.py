"""Files of arrays with a note: bounded, never executed, and every damage is one sentence."""

import io
import json
import zipfile

import numpy as np
import pytest

from retinaface_tf.errors import DataError, WeightsError
from retinaface_tf.util.npz import npz_bytes, read_npz, to_float16, write_npz

ARRAYS = {"a/kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.int32([7])}


@pytest.mark.parametrize("compressed", [True, False])
def test_arrays_and_note_come_back(tmp_path, compressed):
    path = tmp_path / "new" / "x.npz"
    assert write_npz(path, ARRAYS, {"n": [1, "ä"]}, key="state", compressed=compressed) == path
    arrays, note = read_npz(path, key="state")
    assert note == {"n": [1, "ä"]} and list(arrays) == list(ARRAYS)
    for name, values in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], values)
        assert arrays[name].dtype == values.dtype
    assert list(path.parent.iterdir()) == [path]
    with np.load(path) as plain:  # what any other program sees
        assert json.loads(plain["state"].tobytes()) == note
    again = write_npz(tmp_path / "y.npz", ARRAYS, note, key="state", compressed=compressed)
    assert again.read_bytes() == path.read_bytes()


def test_bytes_without_a_note():
    arrays, note = read_npz(npz_bytes(ARRAYS), key=None)
    assert note == {} and set(arrays) == set(ARRAYS)


def _pickled() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, note=np.array([{"executed": print}], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def _bomb() -> bytes:
    return npz_bytes({"zeros": np.zeros(1 << 22, np.uint8)})


def test_damage_is_one_sentence(tmp_path):
    content = write_npz(tmp_path / "x.npz", ARRAYS, {"n": 1}).read_bytes()
    flipped = bytearray(content)
    flipped[60] ^= 0xFF
    bad = {
        "cut": content[:-30],
        "empty": b"",
        "text": b"no archive",
        "flipped": bytes(flipped),
        "pickled": _pickled(),
        "no note": npz_bytes(ARRAYS),
        "a note that is no JSON": npz_bytes({"note": np.uint8([1, 2])}),
        "a note without names": npz_bytes({"note": np.frombuffer(b"[1]", np.uint8)}),
    }
    for name, broken in bad.items():
        with pytest.raises(WeightsError, match=r"^f.npz is truncated or damaged \(\w+\); copy it"):
            print(name, read_npz(broken, name="f.npz"))
    with pytest.raises(DataError, match=r"x.npz is truncated or damaged \(\w+\); start again\.$"):
        read_npz(_bomb(), name="x.npz", limit=1 << 20, remedy="start again", error=DataError)
    assert read_npz(_bomb(), key=None, limit=None)[0]["zeros"].size == 1 << 22


def test_a_file_that_cannot_be_read_or_written_is_named(tmp_path):
    with pytest.raises(DataError, match=r"Cannot read .*none\.npz: No such file or directory\."):
        read_npz(tmp_path / "none.npz", error=DataError)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"Cannot write .*x\.npz: "):
        write_npz(tmp_path / "file" / "x.npz", ARRAYS, error=DataError)


def test_a_member_that_is_no_array_is_damage(tmp_path):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("note.npy", b"not numpy's format")
    with pytest.raises(WeightsError, match="damaged"):
        read_npz(path)


def test_halves_refuse_what_they_cannot_hold():
    halves = to_float16({"k": np.float32([[0.5, 3]]), "v": np.float32([1e-30])}, axes=2)
    assert halves["k"].dtype == np.float16 and halves["v"].dtype == np.float32
    for value in (1e6, np.nan):
        with pytest.raises(DataError, match="k has numbers that float16 cannot hold"):
            to_float16({"k": np.float32([value])}, error=DataError)
