"""The Parquet files of results, read back as this package and as others read them."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from retinaface_tf import Faces
from retinaface_tf.bulk import read_results
from retinaface_tf.bulk.bulk_image import BulkImage
from retinaface_tf.bulk.results import ShardReport, encode_results, read_report, shard_name
from retinaface_tf.errors import DataError, ImageError


def random_faces(rng, count, num_vertices=None):
    vertices = rng.normal(size=(count, num_vertices, 3)) if num_vertices else None
    return Faces(
        rng.normal(size=(count, 4)).astype(np.float32),
        rng.random(count).astype(np.float32),
        rng.normal(size=(count, 5, 2)).astype(np.float32),
        (480, 640),
        None if vertices is None else vertices.astype(np.float32),
    )


def write(folder, **answers):
    """A shard of images by name."""
    rows = [(BulkImage(None, name, None), answer) for name, answer in answers.items()]
    path = folder / shard_name(0)
    path.write_bytes(encode_results(rows, 0, ShardReport(0, len(rows), 0, 0, "w")))
    return path


def same(a, b):
    for name in ("boxes", "scores", "landmarks", "vertices"):
        x, y = getattr(a, name), getattr(b, name)
        assert (x is None and y is None) or (x.shape == y.shape and np.array_equal(x, y)), name
    assert a.image_size == b.image_size


@pytest.mark.parametrize("num_vertices", [None, 7])
def test_what_is_written_is_read_bit_for_bit(rng, tmp_path, num_vertices):
    answers = [random_faces(rng, n, num_vertices) for n in (2, 0, 5)]
    answers.insert(1, ImageError("Cannot read b: it is empty."))
    answers += [Faces.empty((1, 2), num_vertices), ImageError("Cannot read f: no.")]
    rows = [
        (BulkImage("x.tar" if name == "c" else None, name, None), answer)
        for name, answer in zip("abcdef", answers)
    ]
    report = ShardReport(number=3, images=6, faces=7, errors=2, worker="here/1")
    content = encode_results(rows, 100, report, num_vertices)
    (tmp_path / shard_name(3)).write_bytes(content)
    found = list(read_results(tmp_path))
    assert [r.index for r in found] == list(range(100, 106))
    assert [r.image for r in found] == list("abcdef")
    assert [r.source for r in found] == [None, None, "x.tar", None, None, None]
    for answer, result in zip(answers, found):
        if isinstance(answer, Faces):
            same(result.answer, answer)
        else:
            assert str(result.answer) == str(answer)
    assert read_report(tmp_path / shard_name(3)) == report


def test_any_reader_of_parquet_sees_plain_lists_and_nulls(rng, tmp_path):
    faces = random_faces(rng, 1)
    write(tmp_path, a=faces, b=ImageError("Cannot read b: it is empty."))
    (tmp_path / "_manifest.json").write_text("{}")  # readers of folders pass by underscores
    good, bad = pq.read_table(tmp_path).to_pylist()
    assert good["boxes"] == faces.boxes.tolist() and good["scores"] == faces.scores.tolist()
    assert good["landmarks"] == faces.landmarks.tolist() and good["error"] is None
    assert (good["width"], good["height"]) == (640, 480)
    assert bad["error"] == "Cannot read b: it is empty."
    assert {bad[n] for n in ("boxes", "scores", "landmarks", "width", "height")} == {None}


def test_names_that_are_not_utf8(tmp_path):
    write(tmp_path, **{"caf\udce9.jpg": Faces.empty((1, 1))})
    (result,) = read_results(tmp_path)
    assert result.image == "caf�.jpg"


def test_a_damaged_file_is_no_result(tmp_path):
    with pytest.raises(DataError, match="no results"):
        list(read_results(tmp_path))
    path = write(tmp_path, a=Faces.empty((1, 1)))
    path.write_bytes(path.read_bytes()[:-20])
    assert read_report(path) is None
    assert read_report(tmp_path / "missing") is None
    with pytest.raises(DataError, match="damaged"):
        list(read_results(tmp_path))
