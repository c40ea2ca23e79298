"""Outputs are refused before the work begins where they cannot be, or would replace something."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from retinaface_tf.errors import ConfigError
from retinaface_tf.util.files import require_folder, require_free, write_whole


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("there.txt").write_text("mine")
    Path("empty.txt").touch()
    Path("folder").mkdir()
    Path("link.txt").symlink_to("there.txt")
    Path("dangling.txt").symlink_to("new/target.txt")
    os.mkfifo("pipe")
    return tmp_path


@pytest.mark.parametrize(
    "path, said",
    [
        ("there.txt", "there.txt is there already: --overwrite replaces it"),
        ("link.txt", "link.txt is there already"),
        ("folder", "Cannot write folder: is a directory"),
        (".", "is a directory"),
        ("", "is a directory"),
        ("there.txt/x", "Cannot write there.txt/x: not a directory"),
        ("there.txt/deep/x", "not a directory"),
        ("x" * 256, "file name too long"),
        ("new/" + "x" * 256, "file name too long"),
        ("a\0b", "null"),
    ],
)
def test_what_is_in_the_way_is_named(folder, path, said):
    with pytest.raises(ConfigError, match=said):
        require_free(path)
    assert Path("there.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "path", ["new.txt", "new/deep/x.txt", "empty.txt", "pipe", "dangling.txt", "/dev/null"]
)
def test_what_loses_nothing_is_free(folder, path):
    require_free(path)
    assert not Path("new").exists()


def test_inputs_are_never_replaced(folder):
    require_free("there.txt", overwrite=True)
    Path("hard.txt").hardlink_to("there.txt")
    for path in ("there.txt", "./there.txt", "link.txt", "hard.txt"):
        with pytest.raises(ConfigError, match="one of the inputs"):
            require_free(path, ["gone.txt", "there.txt"], overwrite=True)
    # A device or pipe that is read and written loses nothing.
    require_free("/dev/null", ["/dev/null"])


def test_read_only_folders_are_refused(folder, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    for path in ("x.txt", "folder/x.txt", "folder/new/x.txt", "pipe"):
        with pytest.raises(ConfigError, match="permission denied"):
            require_free(path)
    with pytest.raises(ConfigError, match="may not write into the folder folder"):
        require_folder("folder")


def test_folders_are_made_or_refused(folder):
    assert require_folder("new/deep").is_dir()
    for path in ("there.txt", "there.txt/x", "a\0b"):
        with pytest.raises(ConfigError, match="cannot be made"):
            require_folder(path)


def test_names_that_are_no_utf8_are_written_as_they_are(folder):
    name = os.fsdecode(b"\xff.jpg")
    write_whole(name, f"{name}\n")
    assert Path(name).read_bytes() == b"\xff.jpg\n"
    assert stat.S_ISREG(os.lstat(name).st_mode)
