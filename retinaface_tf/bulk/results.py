"""The results of a shard: one Parquet file, a row an image."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from retinaface_tf.bulk.bulk_image import BulkImage
from retinaface_tf.errors import DataError, ImageError
from retinaface_tf.faces.faces import Faces
from retinaface_tf.util.files import is_file

if TYPE_CHECKING:
    import pyarrow as pa

# Key of the file's own metadata, where `ShardReport` is kept as JSON.
_REPORT = b"retinaface_tf"


@dataclass(frozen=True)
class ShardReport:
    """What became of a shard.

    Attributes:
        images: how many it has, readable or not.
        errors: images that failed.
        worker: machine or Ray node, and process.
    """

    number: int
    images: int
    faces: int
    errors: int
    worker: str


@dataclass(frozen=True)
class Result:
    """What became of an image.

    Attributes:
        index: number of the image in the run, from 0.
        source: path of the tar or table it is in, or None.
        image: path, member's name, or row's name.
    """

    index: int
    source: str | None
    image: str
    answer: Faces | ImageError


def shard_name(number: int) -> str:
    """The file of a shard's results in the folder of the run."""
    return f"faces-{number:06d}.parquet"


def result_schema(num_vertices: int | None = None) -> pa.Schema:
    """Columns of the results.

    index int64, source string, image string, width int32, height int32; and for each face in lists,
    best first, boxes [4] (x1, y1, x2, y2), scores, landmarks [5, 2], vertices [V, 3] where the
    network has them, float32, all in pixels of the image as in `Faces`; error string. Of an image
    that failed only the first three and error are there, of any other error is null.
    """
    import pyarrow as pa

    real = pa.float32()
    points = pa.list_(pa.list_(real, 2), 5)
    fields = [
        pa.field("index", pa.int64(), nullable=False),
        ("source", pa.string()),
        pa.field("image", pa.string(), nullable=False),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("boxes", pa.list_(pa.list_(real, 4))),
        ("scores", pa.list_(real)),
        ("landmarks", pa.list_(points)),
        ("error", pa.string()),
    ]
    if num_vertices:
        fields.insert(8, ("vertices", pa.list_(pa.list_(pa.list_(real, 3), num_vertices))))
    return pa.schema(fields)


def encode_results(
    rows: Sequence[tuple[BulkImage, Faces | ImageError]],
    first: int,
    report: ShardReport,
    num_vertices: int | None = None,
) -> bytes:
    """The Parquet file of a shard, with the columns of `result_schema`.

    Args:
        rows: the images in order, each with its faces or what is wrong with it.
        first: number of the shard's first image in the run.
        num_vertices: of each face; None where the network gives none.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    images = [image for image, _ in rows]
    # What failed has a null in every list; an image without faces has an empty list.
    failed = np.array([not isinstance(answer, Faces) for _, answer in rows], bool)
    empty = Faces.empty((0, 0), num_vertices)
    found = [empty if bad else answer for bad, (_, answer) in zip(failed, rows)]
    columns = {
        "index": np.arange(first, first + len(rows)),
        "source": [_text(image.source) for image in images],
        "image": [_text(image.name) for image in images],
        "width": pa.array([f.image_size[1] for f in found], pa.int32(), mask=failed),
        "height": pa.array([f.image_size[0] for f in found], pa.int32(), mask=failed),
        "boxes": _lists([f.boxes for f in found], (4,), failed),
        "scores": _lists([f.scores for f in found], (), failed),
        "landmarks": _lists([f.landmarks for f in found], (5, 2), failed),
        "error": [_text(str(answer)) if bad else None for bad, (_, answer) in zip(failed, rows)],
    }
    if num_vertices:
        columns["vertices"] = _lists([f.vertices for f in found], (num_vertices, 3), failed)
    schema = result_schema(num_vertices).with_metadata({_REPORT: json.dumps(asdict(report))})
    stream = BytesIO()
    pq.write_table(pa.table(columns, schema=schema), stream, compression="zstd")
    return stream.getvalue()


def read_report(path: str | os.PathLike) -> ShardReport | None:
    """The counts kept in a file of results; None where it is missing or damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_metadata(path)
        values = json.loads(metadata.metadata[_REPORT])
        if "pictures" in values:  # the key's name in the first version
            values["images"] = values.pop("pictures")
        report = ShardReport(**values)
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        return None
    return report if report.images == metadata.num_rows else None


def read_results(out: str | os.PathLike) -> Iterator[Result]:
    """The results of a bulk run, in the order of its images, a shard in memory at a time; or of one file.

    Raises:
        DataError: there are none, or a file is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    paths = [Path(out)] if is_file(out) else sorted(Path(out).glob("faces-*.parquet"))
    if not paths:
        raise DataError(f"Cannot read {out}: it holds no results of a bulk run (faces-*.parquet).")
    for path in paths:
        try:
            table = pq.read_table(path)
        except (OSError, pa.ArrowException):
            raise DataError(
                f"Cannot read {path}: it is damaged; delete it and run `detect` again."
            ) from None
        yield from _results(table)


def _results(table: pa.Table) -> Iterator[Result]:
    depth = {"boxes": (4,), "scores": (), "landmarks": (5, 2)}
    if "vertices" in table.column_names:
        kind = table.schema.field("vertices").type.value_type
        depth["vertices"] = (kind.list_size, 3)
    lists = {name: _arrays(table.column(name), shape) for name, shape in depth.items()}
    plain = table.select(["index", "source", "image", "width", "height", "error"]).to_pylist()
    for i, row in enumerate(plain):
        if row["error"] is not None:
            answer = ImageError(row["error"])
        else:
            arrays = {name: values[i] for name, values in lists.items()}
            answer = Faces(image_size=(row["height"], row["width"]), **arrays)
        yield Result(row["index"], row["source"], row["image"], answer)


def _lists(values: list[np.ndarray], shape: tuple[int, ...], failed: np.ndarray) -> pa.Array:
    """Arrays float32 [N_i, *shape] as a column of lists."""
    import pyarrow as pa

    flat = np.concatenate([np.zeros((0, *shape), np.float32), *values])
    column = pa.array(flat.astype(np.float32, copy=False).ravel(), pa.float32())
    for length in reversed(shape):
        column = pa.FixedSizeListArray.from_arrays(column, length)
    offsets = np.cumsum([0, *map(len, values)]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, column, mask=pa.array(failed))


def _arrays(column: pa.ChunkedArray, shape: tuple[int, ...]) -> list[np.ndarray]:
    """The inverse of `_lists`; an empty array where an image failed."""
    arrays = []
    for chunk in column.chunks:
        lengths = np.diff(chunk.offsets.to_numpy())
        flat = chunk.flatten()
        lengths[chunk.is_null().to_numpy(zero_copy_only=False)] = 0
        for _ in shape:
            flat = flat.flatten()
        whole = flat.to_numpy(zero_copy_only=False).reshape(-1, *shape)
        arrays += np.split(whole, np.cumsum(lengths)[:-1])
    return arrays


def _text(value: str | None) -> str | None:
    """A name as UTF-8; other bytes become U+FFFD, as in messages."""
    return (
        None if value is None else value.encode(errors="surrogateescape").decode(errors="replace")
    )
