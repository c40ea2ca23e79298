"""Files that are small and ask for much."""

import io
import os
import threading
import zipfile

import numpy as np
import pytest

from retinaface_tf.errors import ConfigError, DataError, WeightsError
from retinaface_tf.util.bounds import open_archive, parse_json, parse_toml, read_whole
from retinaface_tf.util.npz import read_npz
from retinaface_tf.util.options import apply_overrides, read_options
from retinaface_tf.util.text_lines import read_text


def test_a_sparse_file_is_refused_by_its_size(tmp_path):
    path = tmp_path / "labels.json"
    path.write_bytes(b"{")
    os.truncate(path, 30 << 30)
    for read, error in (
        (read_whole, WeightsError),
        (read_text, DataError),
        (read_options, ConfigError),
    ):
        with pytest.raises(
            error, match=r"Cannot read .*labels\.json: it has more than [\d,]+ bytes"
        ):
            read(path)


def test_a_pipe_is_read_to_the_limit(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)

    def write():
        with path.open("wb") as pipe:
            pipe.write(b"12345678")

    for limit, whole in ((8, True), (7, False)):
        writer = threading.Thread(target=write)
        writer.start()
        if whole:
            assert read_whole(path, limit=limit) == b"12345678"
        else:
            with pytest.raises(WeightsError, match="more than 7 bytes"):
                read_whole(path, limit=limit)
        writer.join()


def _bomb(path, size):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (size,)}
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("note.npy", header.getvalue() + bytes(size))
    return path


def test_an_archive_that_grows_beyond_sense_is_refused_unread(tmp_path):
    path = _bomb(tmp_path / "a.npz", 65 << 20)
    for source in (path, path.read_bytes()):
        message = r"a\.npz would unpack from .* distrust it"
        with pytest.raises(WeightsError, match=message), open_archive(source, path):
            pass
        with pytest.raises(DataError, match="would unpack"):
            read_npz(source, name=path, limit=None, error=DataError)


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (parse_json, "[" * 100_000 + "]" * 100_000),
        (parse_json, '{"a":' * 100 + "1" + "}" * 100),
        (parse_toml, "a=" + "[" * 5_000 + "]" * 5_000),
        (parse_toml, "a=" + "[" * 100 + "]" * 100),
        (parse_toml, "a" + ".a" * 100 + "=1"),
        (parse_toml, "a" + ".a" * 50_000 + "=1"),
    ],
)
def test_deep_nesting_is_a_value_error(parse, text):
    with pytest.raises(ValueError, match=r"nested deeper|dots"):
        parse(text)


def test_what_people_write_is_read():
    assert parse_json('{"a": [1, {"b": [[2]]}]}') == {"a": [1, {"b": [[2]]}]}
    assert parse_toml('[a.b]\nc = [1.5, 2.5]\npath = "../x.y"')["a"]["b"]["c"] == [1.5, 2.5]


def test_overrides_cannot_nest_for_ever():
    apply_overrides({}, ["a" + ".a" * 100_000 + "=1", "b=" + "[" * 5_000 + "]" * 5_000])
