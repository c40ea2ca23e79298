"""Which images a bulk run means, and in what pieces."""

import pickle
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retinaface_tf.bulk.shards import digest_shards, list_shards
from retinaface_tf.bulk.tar import list_tar
from retinaface_tf.errors import ConfigError, ImageError
from tests.helpers.bulk_inputs import encoded, write_tar
from tests.helpers.waiting import PATIENCE


def contents(shards):
    """(name, bytes or problem) of each image."""
    images = [image for shard in shards for image in shard.part.images()]
    return [(image.name, image.problem or image.content) for image in images]


def test_a_folder_in_pieces_that_hold_each_image_once(folder):
    shards = list_shards([folder], rows=3)
    assert [s.part.count for s in shards] == [3, 3, 1]
    assert [s.first for s in shards] == [0, 3, 6]
    assert [name for name, _ in contents(shards)] == [str(folder / f"{n}.png") for n in range(7)]


def test_shards_travel_to_workers(folder, tmp_path):
    write_tar(folder / "a.tar", ["1.png", "2.png"])
    pq.write_table(pa.table({"image": [encoded(1)]}), folder / "t.parquet")
    (folder / "z.tar").write_bytes(b"nothing of the kind, and long enough " * 20)
    shards = list_shards([folder], rows=3)
    assert {s.part.kind for s in shards} == {"files", "tar", "table", "damaged"}
    assert pickle.loads(pickle.dumps(shards)) == shards


def test_tars_of_a_slow_store_are_looked_into_together(tmp_path, monkeypatch):
    for number in range(3):
        write_tar(tmp_path / f"{number}.tar", [f"{number}.png"])
    together = threading.Barrier(3, timeout=PATIENCE)

    def waiting(*args):
        together.wait()
        return list_tar(*args)

    monkeypatch.setattr("retinaface_tf.bulk.shards.list_tar", waiting)
    assert [name for name, _ in contents(list_shards([tmp_path], rows=9))] == [
        "0.png",
        "1.png",
        "2.png",
    ]


@pytest.mark.parametrize("suffix, mode, pieces", [("tar", "w", [2, 2]), ("tar.gz", "w:gz", [4])])
def test_images_of_a_tar_and_nothing_else_in_it(tmp_path, suffix, mode, pieces):
    names = ["1.png", "1.json", "2.png", "4.txt", "0.png", "5.png"]
    path = write_tar(tmp_path / f"a.{suffix}", names, mode)
    shards = list_shards([path], rows=2)
    assert [s.part.count for s in shards] == pieces
    wanted = [(name, encoded(int(name[0]))) for name in names if name.endswith(".png")]
    assert contents(shards) == wanted
    (first, *_) = shards[0].part.images()
    assert first.source == str(path) and first.content.name == f"{path}/1.png"


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_that_was_cut_off_gives_what_it_has_and_says_so(tmp_path, mode):
    path = write_tar(tmp_path / "a.tar", [f"{n}.png" for n in range(8)], mode)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * 0.55)])
    *before, (name, problem) = contents(list_shards([path], rows=3))
    assert 0 < len(before) < 8 and name == ""
    assert str(path) in problem and "too early" in problem
    for number, (_, content) in enumerate(before[:-1]):
        assert content == encoded(number)


def test_a_header_damaged_in_the_middle_is_no_end(tmp_path):
    path = write_tar(tmp_path / "a.tar", [f"{n}.png" for n in range(4)])
    whole = bytearray(path.read_bytes())
    place = whole.index(b"2.png")
    whole[place + 100 : place + 200] = b"\xff" * 100
    path.write_bytes(whole)
    found = contents(list_shards([path], rows=10))
    assert [name for name, _ in found] == ["0.png", "1.png", ""]
    assert "damaged behind its first 2 images" in found[-1][1]


def write_table(path, **columns):
    pq.write_table(pa.table(columns), path, row_group_size=3)
    return path


@pytest.mark.parametrize("rows", [1, 2, 4, 100])
def test_rows_of_a_table_whatever_its_row_groups(tmp_path, rows):
    images = [encoded(n) for n in range(8)]
    path = write_table(tmp_path / "t.parquet", id=[f"p{n}" for n in range(8)], image=images)
    shards = list_shards([path], rows=rows, name_column="id")
    assert sum(s.part.count for s in shards) == 8
    assert contents(shards) == [(f"p{n}", images[n]) for n in range(8)]
    numbered = contents(list_shards([path], rows=rows))
    assert [name for name, _ in numbered] == [str(n) for n in range(8)]


def test_a_table_as_hugging_face_writes_it_with_an_empty_row(tmp_path):
    images = [{"bytes": encoded(1), "path": "x.png"}, {"bytes": None, "path": "y.png"}, None]
    path = write_table(tmp_path / "t.parquet", image=images, label=[1, 2, 3])
    (_, first), (_, second), (_, third) = contents(list_shards([path], rows=5))
    assert first == encoded(1)
    assert "t.parquet/1: its row holds no bytes" in second and "t.parquet/2" in third


def test_columns_that_cannot_be_meant(tmp_path):
    images = [encoded(1)]
    path = write_table(tmp_path / "t.parquet", a=images, b=images, c=[1])
    with pytest.raises(ConfigError, match="several columns of bytes \\(a, b\\)"):
        list_shards([path], rows=1)
    assert contents(list_shards([path], rows=1, image_column="b")) == [("0", images[0])]
    with pytest.raises(ConfigError, match="no column 'c' of encoded images"):
        list_shards([path], rows=1, image_column="c")
    with pytest.raises(ConfigError, match="no column 'd'"):
        list_shards([path], rows=1, image_column="a", name_column="d")


def test_what_is_no_table_is_a_row_that_says_so(tmp_path):
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and then nothing")
    ((_, problem),) = contents(list_shards([tmp_path], rows=1))
    assert "not a Parquet table" in problem


def test_inputs_that_are_not_there(tmp_path):
    for name in ("a.tar", "a.parquet"):
        with pytest.raises(ImageError, match="no such file"):
            list_shards([tmp_path / name], rows=1)
    write_tar(tmp_path / "empty.tar", [])
    with pytest.raises(ImageError, match="no image"):
        list_shards([tmp_path / "empty.tar"], rows=1)
    with pytest.raises(ConfigError, match="shard_size=0"):
        list_shards([tmp_path], rows=0)


def test_the_digest_changes_with_the_images(folder):
    before = digest_shards(list_shards([folder], rows=3))
    assert digest_shards(list_shards([folder], rows=3)) == before
    assert digest_shards(list_shards([folder], rows=4)) != before
    (folder / "0.png").rename(folder / "9.png")
    assert digest_shards(list_shards([folder], rows=3)) != before
