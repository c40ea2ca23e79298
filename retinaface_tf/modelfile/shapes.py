"""The shapes a .tflite file begins with, made small in memory before an interpreter sees them.

An interpreter that is resized keeps the memory it took for the file's own size: 10 MiB for a file
made at 640x640, whatever it is resized to. The shapes stand in the file as plain numbers, so they
are replaced in place; the operators, the weights and so the answers stay what they are.
"""

import struct

# Places of fields in the tables of the format's schema (`schema.fbs` of LiteRT).
_MODEL_SUBGRAPHS, _SUBGRAPH_TENSORS, _TENSOR_SHAPE = 2, 0, 0


def with_shapes(content: bytes, shapes: dict[int, list[int]]) -> bytes:
    """A .tflite file whose tensors begin with other shapes.

    Args:
        content: of the file, known to be whole.
        shapes: by the tensor's number in the first subgraph; others, and those of another rank,
            stay as they are.

    Returns:
        As many bytes; only numbers of shapes differ.
    """
    changed = bytearray(content)

    def number(position: int, kind: str = "<I") -> int:
        return struct.unpack_from(kind, changed, position)[0]

    def field(table: int, place: int) -> int:
        """Where a table has a field; 0 where it has none."""
        layout = table - number(table, "<i")
        entry = 4 + 2 * place
        offset = number(layout + entry, "<H") if entry < number(layout, "<H") else 0
        return table + offset if offset else 0

    def vector(position: int) -> tuple[int, int]:
        """The first element's position and the number of elements."""
        start = position + number(position)
        return start + 4, number(start)

    def table(position: int) -> int:
        return position + number(position)

    subgraphs, _ = vector(field(table(0), _MODEL_SUBGRAPHS))
    tensors, count = vector(field(table(subgraphs), _SUBGRAPH_TENSORS))
    for index in range(count):
        place = field(table(tensors + 4 * index), _TENSOR_SHAPE)
        shape = shapes.get(index)
        if not place or shape is None:
            continue
        start, rank = vector(place)
        if rank == len(shape):
            struct.pack_into(f"<{rank}i", changed, start, *shape)
    return bytes(changed)
