"""The images of a Parquet table: a column of encoded bytes, as Hugging Face and others keep them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from retinaface_tf.bulk.bulk_image import BulkImage
from retinaface_tf.errors import ConfigError, ImageError
from retinaface_tf.util.files import is_file

if TYPE_CHECKING:
    import pyarrow as pa

# Rows held in memory at once.
_ROWS = 16


@dataclass(frozen=True)
class TablePart:
    """Rows of one Parquet table that follow each other.

    Attributes:
        image_column: binary, or a struct with a binary field "bytes".
        name_column: names the images; None numbers them by row.
    """

    kind: ClassVar[str] = "table"
    path: str
    first: int
    rows: int
    image_column: str
    name_column: str | None

    @property
    def count(self) -> int:
        """Number of images."""
        return self.rows

    def images(self) -> Iterator[BulkImage]:
        """Each row's bytes.

        Raises:
            ImageError: the table is gone.
        """
        import pyarrow as pa

        done = 0
        try:
            for batch in self._batches():
                for name, content in self._read(batch, self.first + done):
                    # Counted before it is yielded: no image may come twice.
                    done += 1
                    problem = "its row holds no bytes" if content is None else None
                    yield BulkImage.packed(self.path, name, content, problem)
        except FileNotFoundError:
            raise ImageError(f"Cannot read {self.path}: there is no such file.") from None
        except (pa.ArrowException, OSError):
            for row in range(self.first + done, self.first + self.rows):
                yield BulkImage.packed(self.path, str(row), None, "the table is damaged here")

    def _batches(self) -> Iterator[pa.RecordBatch]:
        """Only these rows, from the row groups they are in."""
        import pyarrow.parquet as pq

        end = self.first + self.rows
        with pq.ParquetFile(self.path) as file:
            groups, row, start = [], 0, None
            for number in range(file.num_row_groups):
                rows = file.metadata.row_group(number).num_rows
                if row < end and row + rows > self.first:
                    groups.append(number)
                    start = row if start is None else start
                row += rows
            columns = [self.image_column, *filter(None, [self.name_column])]
            row = start or 0
            for batch in file.iter_batches(
                _ROWS, row_groups=groups, columns=list(dict.fromkeys(columns)), use_threads=False
            ):
                skip, keep = max(0, self.first - row), min(len(batch), end - row)
                row += len(batch)
                if skip < keep:
                    yield batch.slice(skip, keep - skip)
                if row >= end:
                    return

    def _read(self, batch: pa.RecordBatch, row: int) -> Iterator[tuple[str, bytes | None]]:
        contents = batch.column(self.image_column).to_pylist()
        names = [str(row + i) for i in range(len(contents))]
        if self.name_column:
            given = batch.column(self.name_column).to_pylist()
            names = [own if name is None else str(name) for own, name in zip(names, given)]
        for name, content in zip(names, contents):
            yield name, content.get("bytes") if isinstance(content, dict) else content


def list_table(
    path: str, rows: int, image_column: str | None = None, name_column: str | None = None
) -> tuple[list[TablePart], str | None]:
    """The rows of a Parquet table in parts of at most `rows`.

    Args:
        rows: at most, in a part.
        image_column: holds the encoded images; None where only one column can.
        name_column: names the images; None numbers them by row.

    Returns:
        The parts, and a sentence on what is wrong where the table cannot be read.

    Raises:
        ImageError: there is no such file.
        ConfigError: a column is missing, holds something else, or several could be meant.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not is_file(path):
        raise ImageError(f"Cannot read {path}: there is no such file.")
    try:
        with pq.ParquetFile(path) as file:
            total, schema = file.metadata.num_rows, file.schema_arrow
    except (pa.ArrowException, OSError):
        return [], f"Cannot read {path}: it is not a Parquet table, or damaged."
    image_column = _choose_column(path, schema, image_column)
    if name_column is not None and name_column not in schema.names:
        raise ConfigError(
            f"{path} has no column {name_column!r}; it has {', '.join(schema.names)}."
        )
    parts = [
        TablePart(path, first, min(rows, total - first), image_column, name_column)
        for first in range(0, total, rows)
    ]
    return parts, None


def _choose_column(path: str, schema: pa.Schema, wanted: str | None) -> str:
    fitting = [field.name for field in schema if _holds_bytes(field.type)]
    if wanted is None and len(fitting) == 1:
        return fitting[0]
    if wanted in fitting:
        return wanted
    if wanted is None and fitting:
        raise ConfigError(
            f"{path} has several columns of bytes ({', '.join(fitting)}); say which holds the "
            "images with --image-column."
        )
    column = "no column" if wanted is None else f"no column {wanted!r}"
    raise ConfigError(
        f"{path} has {column} of encoded images; a column is binary, or a struct with a binary "
        f"field 'bytes', and there are {', '.join(schema.names)}."
    )


def _holds_bytes(kind: pa.DataType) -> bool:
    import pyarrow.types as types

    if types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _holds_bytes(kind.field(index).type)
    return types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)
