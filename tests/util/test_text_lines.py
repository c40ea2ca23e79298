"""Text files as editors of all systems write them."""

from __future__ import annotations

import codecs

import pytest

from retinaface_tf.errors import ConfigError, DataError
from retinaface_tf.util.text_lines import TextLines, read_text


def taken(path):
    lines, found = TextLines(path), []
    while lines:
        found.append((lines.take("a line"), lines.number))
    return found


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    "mark, codec",
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
)
def test_marks_and_line_ends_change_nothing(tmp_path, mark, codec, end):
    path = tmp_path / "a.txt"
    text = end.join(["é.jpg", "", " 1 2 ", "a\u2028b", "last"])
    path.write_bytes(mark + text.encode(codec))
    assert taken(path) == [("é.jpg", 1), ("1 2", 3), ("a\u2028b", 4), ("last", 5)]


def test_names_that_are_no_utf8_stay_what_they_are(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xff\xe9.jpg\n")
    ((name, _),) = taken(tmp_path / "a.txt")
    assert name.encode("utf-8", "surrogateescape") == b"\xff\xe9.jpg"


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DataError, match=r"Cannot read .*none\.txt: no such file"):
        read_text(tmp_path / "none.txt")
    with pytest.raises(ConfigError, match="is a directory"):
        read_text(tmp_path, error=ConfigError)
    with pytest.raises(DataError, match="null"):
        read_text("a\0b")
    (tmp_path / "a.txt").write_bytes(codecs.BOM_UTF16_LE + b"a")
    with pytest.raises(DataError, match="UTF-16-LE and is damaged"):
        read_text(tmp_path / "a.txt")


@pytest.mark.parametrize("count", ["²", "-1", "1" * 5000, "1.0", "٣"])
def test_a_count_is_a_plain_number(tmp_path, count):
    (tmp_path / "a.txt").write_text(count)
    with pytest.raises(DataError, match="is not a number of faces"):
        TextLines(tmp_path / "a.txt").take_count()
